//! What every [`BlobStore`] must do. A backend implements [`Backend`] and calls `conformance!(ItsType)`; each promise is then a test
//! of its own.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use enlarger_blobs::{BlobStore, Draft, Key, Scratch};
use futures_util::TryStreamExt;
use uuid::Uuid;

/// One empty storage.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    fn new() -> Self
    where
        Self: Sized;
    /// Where its drafts are written.
    fn scratch(&self) -> Scratch;
    /// Opens it, as another process would.
    async fn open(&self) -> Arc<dyn BlobStore>;
}

/// A storage, opened, and a place for drafts.
pub struct Bench {
    backend: Box<dyn Backend>,
    scratch: Scratch,
    store: Arc<dyn BlobStore>,
}

impl Bench {
    pub async fn new(backend: Box<dyn Backend>) -> Self {
        let (scratch, store) = (backend.scratch(), backend.open().await);
        Bench { backend, scratch, store }
    }

    async fn publish(&self, key: &Key, bytes: &[u8]) {
        self.store.publish(draft(&self.scratch, bytes), key).await.unwrap();
    }

    async fn part(&self, key: &Key, range: Range<u64>) -> Vec<u8> {
        let pieces: Vec<_> = self.store.open(key).await.unwrap().stream(range).try_collect().await.unwrap();
        pieces.concat()
    }
}

/// A draft with these bytes.
pub fn draft(scratch: &Scratch, bytes: &[u8]) -> Draft {
    let mut draft = scratch.draft().unwrap();
    draft.write_all(bytes).unwrap();
    draft
}

fn missing<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn keys(task: Uuid) -> [Key; 4] {
    [Key::Source(task), Key::result(task, 1, "png"), Key::Map(task, 1), Key::Thumb(task)]
}

pub async fn what_is_published_is_there_for_every_process(bench: Bench) {
    let task = Uuid::now_v7();
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    for (key, bytes) in
        keys(task).into_iter().chain([Key::Object(Uuid::new_v4())]).zip([&large[..], b"", b"a", b"b", b"c"])
    {
        bench.publish(&key, bytes).await;
        let another = bench.backend.open().await;
        assert_eq!(another.size(&key).await.unwrap(), bytes.len() as u64, "{key}");
        assert!(another.map(&key).await.unwrap() == bytes, "{key}");
        let opened = another.open(&key).await.unwrap();
        assert_eq!(opened.bytes, bytes.len() as u64, "{key}");
        let pieces: Vec<_> = opened.stream(0..bytes.len() as u64).try_collect().await.unwrap();
        assert!(pieces.concat() == bytes, "{key}");
    }
}

pub async fn a_part_of_a_blob_is_read_alone(bench: Bench) {
    let key = Key::Object(Uuid::new_v4());
    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 253) as u8).collect();
    bench.publish(&key, &bytes).await;
    for range in [0..1, 5..5, 65_535..131_073, 199_999..200_000, 0..200_000] {
        let expected = &bytes[range.start as usize..range.end as usize];
        assert!(bench.part(&key, range.clone()).await == expected, "{range:?}");
    }
}

pub async fn a_draft_that_is_not_published_leaves_nothing(bench: Bench) {
    let task = Uuid::now_v7();
    let draft = draft(&bench.scratch, b"half");
    let path = draft.path().to_owned();
    for key in keys(task) {
        assert!(!bench.store.exists(&key).await.unwrap());
    }
    drop(draft);
    assert!(!path.exists());
    assert_eq!(bench.store.list(task).await.unwrap(), []);
    assert_eq!(bench.store.tasks().await.unwrap(), []);
}

pub async fn what_is_missing_is_not_found_and_deleted_without_an_error(bench: Bench) {
    let (task, taken) = (Uuid::now_v7(), Key::Object(Uuid::new_v4()));
    for key in keys(task).iter().chain([&taken]) {
        assert!(missing(bench.store.size(key).await), "{key}");
        assert!(missing(bench.store.map(key).await), "{key}");
        assert!(missing(bench.store.open(key).await), "{key}");
        assert!(missing(bench.store.copy(key, &Key::Source(Uuid::now_v7())).await), "{key}");
        assert!(!bench.store.exists(key).await.unwrap(), "{key}");
        bench.store.delete(key).await.unwrap();
    }
    bench.store.delete_task(task).await.unwrap();
}

pub async fn publishing_again_replaces_the_whole_blob_and_readers_go_on_with_the_old_one(bench: Bench) {
    let key = Key::Object(Uuid::new_v4());
    let old = vec![1; 300_000];
    bench.publish(&key, &old).await;
    let (mapped, opened) = (bench.store.map(&key).await.unwrap(), bench.store.open(&key).await.unwrap());
    bench.publish(&key, b"new").await;
    assert_eq!(&bench.store.map(&key).await.unwrap()[..], b"new");
    assert_eq!(bench.part(&key, 0..3).await, b"new");
    let removed = bench.store.open(&key).await.unwrap();
    bench.store.delete(&key).await.unwrap();
    assert!(missing(bench.store.map(&key).await));
    assert!(mapped == old);
    let pieces: Vec<_> = opened.stream(0..300_000).try_collect().await.unwrap();
    assert!(pieces.concat() == old);
    let pieces: Vec<_> = removed.stream(0..3).try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"new");
}

pub async fn of_many_that_publish_at_once_one_wins_whole(bench: Bench) {
    let key = Key::Thumb(Uuid::now_v7());
    let publishing: Vec<_> = (0..16u8)
        .map(|i| {
            let (store, key) = (bench.store.clone(), key.clone());
            let draft = draft(&bench.scratch, &vec![i; 100_000 + usize::from(i)]);
            tokio::spawn(async move { store.publish(draft, &key).await.unwrap() })
        })
        .collect();
    for one in publishing {
        one.await.unwrap();
    }
    let bytes = bench.store.map(&key).await.unwrap();
    assert_eq!(bytes.len(), 100_000 + usize::from(bytes[0]));
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
}

pub async fn a_copy_and_its_original_do_not_know_of_each_other(bench: Bench) {
    let [a, b] = [Uuid::new_v4(), Uuid::now_v7()];
    let (original, copy) = (Key::Object(a), Key::Source(b));
    bench.publish(&original, b"picture").await;
    bench.store.copy(&original, &copy).await.unwrap();
    bench.publish(&original, b"another").await;
    assert_eq!(&bench.store.map(&copy).await.unwrap()[..], b"picture");
    bench.store.copy(&original, &copy).await.unwrap();
    assert_eq!(&bench.store.map(&copy).await.unwrap()[..], b"picture", "a key that is taken stays as it is");
    bench.store.delete(&original).await.unwrap();
    assert_eq!(&bench.store.map(&copy).await.unwrap()[..], b"picture");
    assert_eq!(bench.store.list(b).await.unwrap(), [copy]);
}

pub async fn tasks_are_listed_with_all_that_is_theirs_and_deleted_alone(bench: Bench) {
    let began = SystemTime::now() - Duration::from_secs(2);
    let [first, second] = [Uuid::now_v7(), Uuid::now_v7()];
    let object = Key::Object(Uuid::new_v4());
    bench.publish(&object, b"0123456789").await;
    for task in [first, second] {
        for key in keys(task) {
            bench.publish(&key, b"abc").await;
        }
    }
    let names = |keys: Vec<Key>| keys.iter().map(Key::to_string).collect::<BTreeSet<_>>();
    assert_eq!(names(bench.store.list(first).await.unwrap()), names(keys(first).to_vec()));
    let mut tasks = bench.store.tasks().await.unwrap();
    tasks.sort_by_key(|blobs| blobs.task);
    assert_eq!(tasks.iter().map(|blobs| (blobs.task, blobs.bytes)).collect::<Vec<_>>(), [(first, 12), (second, 12)]);
    assert!(tasks.iter().all(|blobs| blobs.modified > began), "{tasks:?}");
    assert!(bench.store.usage().await.unwrap().used >= 34);

    bench.store.delete(&Key::Map(first, 1)).await.unwrap();
    assert_eq!(bench.store.list(first).await.unwrap().len(), 3);
    bench.store.delete_task(first).await.unwrap();
    assert_eq!(bench.store.list(first).await.unwrap(), []);
    assert!(missing(bench.store.map(&Key::Source(first)).await));
    let left = bench.store.tasks().await.unwrap();
    assert_eq!(left.iter().map(|blobs| blobs.task).collect::<Vec<_>>(), [second]);
    assert_eq!(&bench.store.map(&object).await.unwrap()[..], b"0123456789");
}

pub async fn a_storage_keeps_the_first_stamp_unless_just_that_one_is_replaced(bench: Bench) {
    let stamp = async || bench.backend.open().await.stamp().await.unwrap();
    assert_eq!(stamp().await, None);
    bench.store.set_stamp("first", None).await.unwrap();
    bench.store.set_stamp("second", None).await.unwrap();
    assert_eq!(stamp().await.as_deref(), Some("first"));
    bench.store.set_stamp("third", Some("second")).await.unwrap();
    assert_eq!(stamp().await.as_deref(), Some("first"));
    bench.store.set_stamp("third", Some("first")).await.unwrap();
    assert_eq!(stamp().await.as_deref(), Some("third"));
    assert_eq!(bench.store.tasks().await.unwrap(), [], "it is no blob");
}

/// A picture copied long after it was uploaded is a young blob: the sweeper must not take its task for a forgotten one.
pub async fn a_copy_is_as_young_as_its_task(bench: Bench) {
    let (object, task) = (Key::Object(Uuid::new_v4()), Uuid::now_v7());
    bench.publish(&object, b"picture").await;
    let before = SystemTime::now() - Duration::from_millis(20);
    bench.store.copy(&object, &Key::Source(task)).await.unwrap();
    let tasks = bench.store.tasks().await.unwrap();
    assert!(tasks.iter().any(|blobs| blobs.task == task && blobs.modified >= before), "{tasks:?}");
}

pub async fn a_storage_that_works_says_so(bench: Bench) {
    bench.store.ping().await.unwrap();
    assert_eq!(bench.store.tasks().await.unwrap(), [], "and leaves nothing behind");
}

/// Makes one test of every promise above, on the given backend.
#[macro_export]
macro_rules! conformance {
    ($backend:ty) => {
        conformance!($backend:
            what_is_published_is_there_for_every_process,
            a_part_of_a_blob_is_read_alone,
            a_draft_that_is_not_published_leaves_nothing,
            what_is_missing_is_not_found_and_deleted_without_an_error,
            publishing_again_replaces_the_whole_blob_and_readers_go_on_with_the_old_one,
            of_many_that_publish_at_once_one_wins_whole,
            a_copy_and_its_original_do_not_know_of_each_other,
            tasks_are_listed_with_all_that_is_theirs_and_deleted_alone,
            a_copy_is_as_young_as_its_task,
            a_storage_that_works_says_so,
            a_storage_keeps_the_first_stamp_unless_just_that_one_is_replaced,
        );
    };
    ($backend:ty: $($test:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let backend: Box<dyn conformance::Backend> = Box::new(<$backend as conformance::Backend>::new());
            conformance::$test(conformance::Bench::new(backend).await).await;
        }
    )+};
}
