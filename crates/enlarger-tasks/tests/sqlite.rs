//! The conformance suite on SQLite, and what only SQLite can get wrong.

mod conformance;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use conformance::Backend;
use enlarger_tasks::{Clock, SqliteStore, StoreConfig, StoreError, SystemClock, TaskStore};

struct Sqlite {
    directory: tempfile::TempDir,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.directory.path().join("tasks.db")
    }
}

#[async_trait]
impl Backend for Sqlite {
    fn new() -> Self {
        Sqlite { directory: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, config: StoreConfig, clock: Arc<dyn Clock>) -> Arc<dyn TaskStore> {
        Arc::new(SqliteStore::open(&self.path(), config, clock).await.unwrap())
    }
}

conformance!(Sqlite);

async fn open(path: PathBuf) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&path, StoreConfig::default(), Arc::new(SystemClock)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_agree_on_the_schema() {
    let sqlite = Sqlite::new();
    let openings: Vec<_> = (0..8).map(|_| tokio::spawn(open(sqlite.path()))).collect();
    for opening in openings {
        opening.await.unwrap().unwrap().ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_a_hint() {
    let sqlite = Sqlite::new();
    std::fs::write(sqlite.path(), b"a picture of a cat, perhaps, but certainly not a database".repeat(100)).unwrap();
    let refusal = open(sqlite.path()).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Open { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("hint:"), "{refusal}");
    let missing = open(sqlite.directory.path().join("no/such/directory/tasks.db")).await.unwrap_err();
    assert!(missing.to_string().contains("hint: the directory must exist"), "{missing}");
}

/// A foreign process that sits on the write lock makes writes fail as unavailable, reads go on, and nothing is half done
/// when it lets go. Waits for the real busy timeout once.
#[tokio::test(flavor = "multi_thread")]
async fn p16_a_locked_database_is_unavailable_and_recovers_alone() {
    use sqlx::ConnectOptions as _;
    let sqlite = Sqlite::new();
    let store = open(sqlite.path()).await.unwrap();
    store.submit(conformance::task("before", 1.0), None).await.unwrap();

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(sqlite.path());
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = store.ping().await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    assert_eq!(store.counts().await.unwrap().created, 1, "reads go on");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();

    store.ping().await.unwrap();
    store.submit(conformance::task("after", 1.0), None).await.unwrap();
    assert_eq!(store.counts().await.unwrap().created, 2);
}
