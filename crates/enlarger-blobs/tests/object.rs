//! The conformance suite on buckets of two servers, and what only a bucket can get wrong.

mod conformance;
mod servers;

use std::{
    io,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use conformance::{Backend, draft};
use enlarger_blobs::{BlobStore, Key, Right, Scratch, is_transient, open_blobs};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use servers::{
    moto::{BUCKET, KEY, Moto},
    proxy::{Mood, Proxy},
    s3s::S3s,
};
use uuid::Uuid;

/// A bucket, and a place for drafts.
struct Bucket<S> {
    server: S,
    root: tempfile::TempDir,
}

impl<S> Bucket<S> {
    fn of(server: S) -> Self {
        Self { server, root: tempfile::tempdir().unwrap() }
    }

    fn drafts(&self) -> Scratch {
        Scratch::open(self.root.path()).unwrap()
    }

    async fn at(&self, url: &str) -> Arc<dyn BlobStore> {
        open(url, &self.drafts()).await.unwrap()
    }
}

async fn open(url: &str, scratch: &Scratch) -> io::Result<Arc<dyn BlobStore>> {
    static ENVIRONMENT: Once = Once::new();
    ENVIRONMENT.call_once(|| {
        for (name, value) in [("AWS_ACCESS_KEY_ID", KEY.0), ("AWS_SECRET_ACCESS_KEY", KEY.1)] {
            // SAFETY: only code in Rust reads the environment here, and the standard library locks it.
            unsafe { std::env::set_var(name, value) };
        }
    });
    open_blobs(url, scratch).await
}

macro_rules! backend {
    ($server:ty) => {
        #[async_trait]
        impl Backend for Bucket<$server> {
            fn new() -> Self {
                Self::of(<$server>::start())
            }

            fn scratch(&self) -> Scratch {
                self.drafts()
            }

            async fn open(&self) -> Arc<dyn BlobStore> {
                self.at(&self.server.storage()).await
            }
        }
    };
}

backend!(S3s);
backend!(Moto);

mod on_s3s {
    use super::{Bucket, S3s, conformance};
    conformance!(Bucket<S3s>);
}

mod on_moto {
    use super::{Bucket, Moto, conformance};
    conformance!(Bucket<Moto>);
}

/// Bytes of memory of this process that no file backs.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_result_goes_in_parts_and_comes_back_without_being_held_in_memory() {
    const SIZE: usize = 100 << 20;
    let bucket = Bucket::of(Moto::start());
    let store = bucket.at(&bucket.server.storage()).await;
    store.ping().await.unwrap();
    let key = Key::result(Uuid::now_v7(), 1, "png");
    let large = {
        let pattern: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        let mut draft = bucket.drafts().draft().unwrap();
        (0..SIZE >> 20).for_each(|_| io::Write::write_all(&mut draft, &pattern).unwrap());
        draft
    };
    let (before, most, done) = (memory(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watching = std::thread::spawn({
        let (most, done) = (most.clone(), done.clone());
        move || {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(memory(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    store.publish(large, &key).await.unwrap();
    let back = store.map(&key).await.unwrap();
    done.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    let grown = most.load(Ordering::Relaxed).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes of {SIZE} were in memory");
    assert!(back.len() == SIZE && back.chunks(1 << 20).all(|piece| piece[..251] == back[..251]));
    // The tag of what came in parts ends with their number (Amazon S3, "Checking object integrity").
    let answer = bucket.server.ask("HEAD", &format!("/{BUCKET}/some/where/{key}")).to_lowercase();
    assert!(answer.contains("-13\""), "{answer}");
    assert!(answer.contains("content-type: image/png"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_given_up_leaves_no_parts() {
    let bucket = Bucket::of(Moto::start());
    let store = bucket.at(&bucket.server.storage()).await;
    let uploads = || bucket.server.ask("GET", &format!("/{BUCKET}?uploads"));
    let large = draft(&bucket.drafts(), &vec![7; 64 << 20]);
    let publishing = {
        let store = store.clone();
        tokio::spawn(async move { store.publish(large, &Key::Object(Uuid::new_v4())).await })
    };
    while !uploads().contains("<UploadId>") {
        assert!(!publishing.is_finished(), "it is too quick for this test");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    publishing.abort();
    let _ = publishing.await;
    while uploads().contains("<UploadId>") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_url_is_good_for_one_file_one_way_and_a_while() {
    let bucket = Bucket::of(S3s::start());
    let store = bucket.at(&bucket.server.storage()).await;
    let (key, other) = (Key::result(Uuid::now_v7(), 1, "png"), Key::Object(Uuid::new_v4()));
    store.publish(draft(&bucket.drafts(), b"picture"), &key).await.unwrap();
    let soon = Timestamp::now() + SignedDuration::from_secs(60);
    let url = async |key: &Key, right, at| store.signed_url(key, right, at).await.unwrap().unwrap();
    let client = reqwest::Client::new();

    let read = url(&key, Right::Read, soon).await;
    let answer = client.get(&read).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), "picture");
    assert_eq!(client.put(&read).body("forged").send().await.unwrap().status(), 403);
    let elsewhere = read.replace(&key.to_string(), &other.to_string());
    assert_eq!(client.get(elsewhere).send().await.unwrap().status(), 403);

    let write = url(&other, Right::Write, soon).await;
    assert_eq!(client.put(write).body("upload").send().await.unwrap().status(), 200);
    assert_eq!(store.map(&other).await.unwrap(), "upload");

    let short = url(&key, Right::Read, Timestamp::now() - SignedDuration::from_secs(60)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.get(short).send().await.unwrap().status(), 403);
}

/// The kind of an error tells the service what to do, its text the operator; neither tells anyone a secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_a_missing_bucket_and_an_unreachable_server_are_told_apart() {
    let bucket = Bucket::of(S3s::with_secret("another secret"));
    let told = async |url: &str| {
        let store = bucket.at(url).await;
        let error = store.ping().await.unwrap_err();
        let text = error.to_string();
        assert!(!text.contains(KEY.1) && !format!("{store:?}").contains(KEY.1), "{text}");
        (error.kind(), text)
    };
    let (kind, text) = told(&bucket.server.storage()).await;
    assert_eq!(kind, io::ErrorKind::PermissionDenied, "{text}");
    assert!(text.contains("denied access (SignatureDoesNotMatch"), "{text}");

    let good = Moto::start();
    let missing = format!("s3://elsewhere?endpoint=http://127.0.0.1:{}", good.port);
    let (kind, text) = told(&missing).await;
    assert_eq!((kind, &*text), (io::ErrorKind::InvalidInput, "the bucket does not exist"));
    let lost = bucket.at(&missing).await.map(&Key::Object(Uuid::new_v4())).await.unwrap_err();
    assert_ne!(lost.kind(), io::ErrorKind::NotFound, "the blob may exist, for all we know");

    drop(good);
    let (kind, text) = told(&missing).await;
    assert!(is_transient(&kind.into()), "{kind:?} {text}");
    let silent = Proxy::before(1, Mood::Silent).await;
    let (kind, text) = told(&format!("s3://elsewhere?endpoint=http://127.0.0.1:{}", silent.port)).await;
    assert!(is_transient(&kind.into()), "{kind:?} {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_is_asked_again_and_a_long_outage_is_an_error_that_passes() {
    let bucket = Bucket::of(S3s::start());
    let proxy = Proxy::before(bucket.server.port, Mood::Busy).await;
    let store = bucket.at(&format!("s3://{BUCKET}/a?endpoint=http://127.0.0.1:{}", proxy.port)).await;
    let key = Key::Object(Uuid::new_v4());
    let publishing = tokio::spawn({
        let (store, key, draft) = (store.clone(), key.clone(), draft(&bucket.drafts(), b"picture"));
        async move { store.publish(draft, &key).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!publishing.is_finished());
    proxy.turn(Mood::Pass);
    publishing.await.unwrap().unwrap();
    assert_eq!(store.map(&key).await.unwrap(), "picture");

    proxy.turn(Mood::Busy);
    let error = store.map(&key).await.unwrap_err();
    assert!(is_transient(&error), "{error:?}");
    let text = "the storage is busy: it answered 503 (SlowDown: Please reduce your request rate)";
    assert_eq!(error.to_string(), text);
    assert!(is_transient(&store.ping().await.unwrap_err()));
    proxy.turn(Mood::Pass);
    store.ping().await.unwrap();
    assert_eq!(store.map(&key).await.unwrap(), "picture");
}

/// A server lists a thousand blobs at a time, and deletes as many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_blobs_than_a_page_holds_are_all_listed_counted_and_deleted() {
    let bucket = Bucket::of(S3s::start());
    let store = bucket.at(&bucket.server.storage()).await;
    let (task, scratch) = (Uuid::now_v7(), bucket.drafts());
    let publish = async |attempt| store.publish(draft(&scratch, b"ab"), &Key::Map(task, attempt)).await;
    stream::iter(0..1_234).map(publish).buffer_unordered(8).try_collect::<()>().await.unwrap();
    assert_eq!(store.list(task).await.unwrap().len(), 1_234);
    assert_eq!(store.tasks().await.unwrap()[0].bytes, 2_468);
    assert_eq!(store.usage().await.unwrap().used, 2_468);
    store.delete_task(task).await.unwrap();
    assert_eq!(store.list(task).await.unwrap(), []);
    let left = walk(bucket.server.root.path());
    assert!(left.iter().all(|name| !name.contains(&task.to_string())), "{left:?}");
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let below = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => walk(&path),
        path => vec![path.display().to_string()],
    };
    entries.flat_map(below).collect()
}

#[tokio::test]
async fn a_url_of_a_bucket_that_cannot_be_right_is_refused_with_a_sentence() {
    let root = tempfile::tempdir().unwrap();
    let scratch = Scratch::open(root.path()).unwrap();
    for (url, sentence) in [
        ("s3://me:hunter2@pictures", "must not contain credentials"),
        ("s3:///prefix", "names no bucket"),
        ("s3://pictures?endpoint=minio:9000", "must be a plain http or https URL"),
        ("s3://pictures?endpoint=http://me:hunter2@minio", "must be a plain http or https URL"),
        ("s3://pictures?regoin=eu", "unknown option `regoin`; there are endpoint, region and path_style"),
        ("s3://pictures?path_style=maybe", "`path_style` must be true or false"),
    ] {
        let error = open(url, &scratch).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{url}");
        assert!(error.to_string().contains(sentence), "{url}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// Both ways of naming a bucket, as servers document them.
#[tokio::test]
async fn a_bucket_is_in_the_path_or_in_the_host_name() {
    let root = tempfile::tempdir().unwrap();
    let scratch = Scratch::open(root.path()).unwrap();
    let key = Key::Object(Uuid::nil());
    for (url, begin) in [
        ("s3://pictures", "https://pictures.s3.us-east-1.amazonaws.com/objects/0000"),
        ("s3://pictures/a%20b?region=eu-west-3", "https://pictures.s3.eu-west-3.amazonaws.com/a%20b/objects/0000"),
        ("s3://my.pictures", "https://s3.us-east-1.amazonaws.com/my.pictures/objects/0000"),
        ("s3://pictures?endpoint=https://s3.example.com/", "https://s3.example.com/pictures/objects/0000"),
        (
            "s3://pictures?endpoint=http://s3.example.com:9&path_style=false",
            "http://pictures.s3.example.com:9/objects/0000",
        ),
    ] {
        let store = open(url, &scratch).await.unwrap();
        let signed = store.signed_url(&key, Right::Read, Timestamp::MAX).await.unwrap().unwrap();
        assert!(signed.starts_with(begin), "{url}: {signed}");
        assert!(signed.contains("X-Amz-Expires=604800&"), "{signed}");
    }
}
