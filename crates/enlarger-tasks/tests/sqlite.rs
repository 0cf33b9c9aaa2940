//! The conformance suite and the crashes on SQLite, and what only SQLite can get wrong.

mod conformance;
#[cfg(unix)]
mod crash;

use std::{path::PathBuf, sync::Arc};

use conformance::Backend;
use enlarger_error::Explained;
use enlarger_tasks::{Store, StoreConfig, StoreError, SystemClock, open_store, sqlite};

struct Sqlite {
    directory: tempfile::TempDir,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.directory.path().join("tasks.db")
    }
}

impl Backend for Sqlite {
    fn new() -> Self {
        Sqlite { directory: tempfile::tempdir().unwrap() }
    }

    fn url(&self) -> String {
        sqlite::url_of(&self.path()).unwrap()
    }
}

conformance!(Sqlite);
#[cfg(unix)]
crash!(Sqlite);

#[cfg(target_os = "linux")]
#[tokio::test]
async fn p16_a_full_disk_refuses_loses_nothing_and_recovers_alone() {
    let sqlite = Sqlite::new();
    crash::p16_a_full_disk_refuses_loses_nothing_and_recovers_alone(sqlite.url()).await;
}

async fn open(path: PathBuf) -> Result<Store, StoreError> {
    open_store(&sqlite::url_of(&path).unwrap(), StoreConfig::default(), Arc::new(SystemClock)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_agree_on_the_schema() {
    let sqlite = Sqlite::new();
    let openings: Vec<_> = (0..8).map(|_| tokio::spawn(open(sqlite.path()))).collect();
    for opening in openings {
        opening.await.unwrap().unwrap().upkeep.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_a_hint() {
    let sqlite = Sqlite::new();
    std::fs::write(sqlite.path(), b"a picture of a cat, perhaps, but certainly not a database".repeat(100)).unwrap();
    let refusal = open(sqlite.path()).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Open { .. }), "{refusal:?}");
    assert!(refusal.hint().is_some() && !refusal.to_string().contains("hint"), "{refusal}");
    let missing = open(sqlite.directory.path().join("no/such/directory/tasks.db")).await.unwrap_err();
    assert!(missing.hint().is_some_and(|hint| hint.starts_with("the folder must exist")), "{missing}");
}

#[tokio::test]
async fn a_url_that_names_no_database_of_ours_is_refused_with_a_sentence() {
    let refusal = async |url: &str| {
        let refused = open_store(url, StoreConfig::default(), Arc::new(SystemClock)).await.unwrap_err();
        assert!(matches!(refused, StoreError::Open { .. }), "{refused:?}");
        let hint = refused.hint().expect("what to do").into_owned();
        (refused.to_string(), hint)
    };
    let (unknown, hint) = refusal("mysql://root:hunter2@db.example/tasks").await;
    assert!(unknown.contains("mysql: databases are not supported"), "{unknown}");
    assert!(!unknown.contains("hunter2") && !hint.contains("hunter2"), "{unknown}");
    for relative in ["sqlite:tasks.sqlite", "sqlite:///tasks.sqlite?mode=ro", "sqlite://host/tasks.sqlite"] {
        assert!(refusal(relative).await.1.contains("use three slashes and an absolute path"), "{relative}");
    }
    assert!(refusal("tasks.sqlite").await.0.contains("invalid database URL"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_database_lies_wherever_a_path_leads() {
    let sqlite = Sqlite::new();
    for name in ["a b%20c?d#e.db", "\u{e9}\u{1F600}.db", "c:\\d'\".db"] {
        let path = sqlite.directory.path().join(name);
        open(path.clone()).await.unwrap().upkeep.ping().await.unwrap();
        assert!(path.is_file(), "{}", path.display());
    }
}

/// A foreign process that sits on the write lock makes writes fail as unavailable, reads go on, and nothing is half done
/// when it lets go. Waits for the real busy timeout once.
#[tokio::test(flavor = "multi_thread")]
async fn p16_a_locked_database_is_unavailable_and_recovers_alone() {
    use sqlx::ConnectOptions as _;
    let sqlite = Sqlite::new();
    let store = open(sqlite.path()).await.unwrap();
    store.queue.submit(conformance::task("before", 1.0), None).await.unwrap();

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(sqlite.path());
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = store.upkeep.ping().await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    assert_eq!(store.upkeep.counts().await.unwrap().created, 1, "reads go on");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();

    store.upkeep.ping().await.unwrap();
    store.queue.submit(conformance::task("after", 1.0), None).await.unwrap();
    assert_eq!(store.upkeep.counts().await.unwrap().created, 2);
}

/// A database of the first release, with a task in each state, goes on: nothing is lost, and what refers to tasks still does.
#[tokio::test]
async fn p20_a_database_of_the_first_release_migrates_with_all_that_refers_to_its_tasks() {
    use sqlx::{ConnectOptions as _, Connection as _, Row as _};
    let sqlite = Sqlite::new();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(sqlite.path()).create_if_missing(true);
    let mut old = options.connect().await.unwrap();
    let released = tempfile::tempdir().unwrap();
    let first = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/0001_initial.sql");
    std::fs::copy(first, released.path().join("0001_initial.sql")).unwrap();
    sqlx::migrate::Migrator::new(released.path()).await.unwrap().run(&mut old).await.unwrap();
    let (waiting, done) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    let rows = format!(
        "INSERT INTO tasks (id, kind, request, input, cost, state, run, attempt, failures, due, not_before, created_at,
                            finished_at, expires_at, files, hidden, result) VALUES
             ('{waiting}', 'creative', '{{}}', '{{}}', 1, 'CREATED', 1, 0, 0, 1, 1, 1, NULL, NULL, 'present', 0, NULL),
             ('{done}', 'creative', '{{}}', '{{}}', 1, 'COMPLETED', 1, 1, 0, 1, 1, 1, 5, 6, 'present', 0, '{{\"a\":1}}');
         INSERT INTO idempotency_keys VALUES ('', 'k', zeroblob(32), '{done}', NULL, 9000000000000);
         INSERT INTO outbox (event, task, run, status, url, receiver, state, attempts, sending, due_at, created_at)
             VALUES ('{}', '{done}', 1, 'COMPLETED', 'https://a.example', 'a.example', 'pending', 0, 0, 1, 1);",
        uuid::Uuid::new_v4()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&mut old).await.unwrap();
    old.close().await.unwrap();

    let store = open(sqlite.path()).await.unwrap();
    let scope = enlarger_tasks::Scope::All;
    let kept = store.queue.get(done, &scope).await.unwrap().unwrap();
    assert_eq!((kept.expires_at.unwrap().as_millisecond(), kept.result), (6, Some(serde_json::json!({ "a": 1 }))));
    assert_eq!(store.queue.claim("w", conformance::LEASE).await.unwrap().unwrap().id, waiting);
    let due = store.outbox.due(10, conformance::LEASE).await.unwrap();
    assert_eq!(due.iter().map(|it| it.task).collect::<Vec<_>>(), [done]);
    let key = enlarger_tasks::Idempotency { key: "k".into(), body_hash: [0; 32], reservation: None };
    let replay = store.queue.submit(conformance::task("creative", 1.0), Some(key)).await.unwrap();
    assert!(matches!(replay, enlarger_tasks::Submitted::Replayed(task) if task.id == done));
    let counts = store.upkeep.counts().await.unwrap();
    assert_eq!((counts.in_progress, counts.completed), (1, 1), "those from before are counted");
    let mut new = options.connect().await.unwrap();
    assert!(sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut new).await.unwrap().is_empty());
    // A task that goes still takes its webhooks and keys along.
    store.queue.delete(done, &scope).await.unwrap();
    store.queue.files_deleted(done).await.unwrap();
    let left = sqlx::query("SELECT count(*) AS n FROM outbox").fetch_one(&mut new).await.unwrap();
    assert_eq!(left.get::<i64, _>("n"), 0);
}

#[tokio::test]
async fn p20_a_sqlite_database_of_a_newer_version_is_refused_with_a_hint() {
    use sqlx::ConnectOptions as _;
    let sqlite = Sqlite::new();
    drop(open(sqlite.path()).await.unwrap());
    let mut later = sqlx::sqlite::SqliteConnectOptions::new().filename(sqlite.path()).connect().await.unwrap();
    let row = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
               VALUES (9999, 'later', TRUE, x'', 0)";
    sqlx::query(row).execute(&mut later).await.unwrap();
    let refusal = open(sqlite.path()).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Open { .. }), "{refusal:?}");
    assert!(refusal.hint().is_some_and(|hint| hint.contains("a newer version")), "{refusal:?}");
}
