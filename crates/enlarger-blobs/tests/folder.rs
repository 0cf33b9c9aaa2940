//! The conformance suite on a folder, and what only a folder can get wrong.

mod conformance;

use std::sync::Arc;

use async_trait::async_trait;
use conformance::Backend;
use enlarger_blobs::{BlobStore, Key, Scratch, folder, open_blobs};
use uuid::Uuid;

struct Folder {
    root: tempfile::TempDir,
}

#[async_trait]
impl Backend for Folder {
    fn new() -> Self {
        Folder { root: tempfile::tempdir().unwrap() }
    }

    fn scratch(&self) -> Scratch {
        Scratch::open(&self.root.path().join("tmp")).unwrap()
    }

    async fn open(&self) -> Arc<dyn BlobStore> {
        open_blobs(&folder::url_of(self.root.path()).unwrap(), &self.scratch()).await.unwrap()
    }
}

conformance!(Folder);

/// Folders that earlier versions have written are read, and their files stay where other programs look for them.
#[tokio::test]
async fn files_lie_where_they_always_did() {
    let folder = Folder::new();
    let (store, scratch) = (folder.open().await, folder.scratch());
    let id: Uuid = "0198a5f0-0000-7000-8000-00000000003f".parse().unwrap();
    for (key, path) in [
        (Key::Source(id), format!("tasks/3f/{id}/source")),
        (Key::result(id, 2, "png"), format!("tasks/3f/{id}/result-2.png")),
        (Key::Map(id, 2), format!("tasks/3f/{id}/map-2.png")),
        (Key::Thumb(id), format!("tasks/3f/{id}/thumb")),
        (Key::Object(id), format!("objects/3f/{id}")),
    ] {
        let path = folder.root.path().join(path);
        store.publish(conformance::draft(&scratch, b"abc"), &key).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc", "{key}");
        std::fs::write(&path, b"by another version").unwrap();
        assert_eq!(&store.map(&key).await.unwrap()[..], b"by another version", "{key}");
    }
}

#[tokio::test]
async fn a_url_that_names_no_storage_of_ours_is_refused_with_a_sentence() {
    let scratch = Folder::new().scratch();
    let refusal = async |url: &str| open_blobs(url, &scratch).await.unwrap_err().to_string();
    let unknown = refusal("ftp://root:hunter2@files.example/a").await;
    assert_eq!(unknown, "ftp: storage is not supported");
    assert!(refusal("file://host/a").await.contains("is not a folder on this machine"));
    assert!(refusal("no/url").await.contains("invalid storage URL"));
}

/// Two names of one file share its time, and only the folder knows when the second name came.
#[tokio::test]
async fn a_copy_of_an_old_upload_is_as_young_as_its_task() {
    let folder = Folder::new();
    let (store, scratch) = (folder.open().await, folder.scratch());
    let (upload, task) = (Uuid::from_u128(0xab), Uuid::now_v7());
    store.publish(conformance::draft(&scratch, b"picture"), &Key::Object(upload)).await.unwrap();
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let path = folder.root.path().join(format!("objects/ab/{upload}"));
    std::fs::File::options().append(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    store.copy(&Key::Object(upload), &Key::Source(task)).await.unwrap();
    let tasks = store.tasks().await.unwrap();
    assert!(tasks[0].task == task && tasks[0].modified > hour_ago + std::time::Duration::from_secs(1800), "{tasks:?}");
}
