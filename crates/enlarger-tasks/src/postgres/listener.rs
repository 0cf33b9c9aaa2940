//! Changes made by other processes. Each announces its own by NOTIFY, after the commit and not within the transaction: those that
//! notify are committed one after the other, each waiting for the disk.

use std::time::Duration;

use sqlx::{
    Error, PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::{sql::CHANGES, store::Change};

const CHANNEL: &str = "enlarger";
/// A notification has less than 8000 bytes; a change takes less than 50.
const AT_ONCE: usize = 100;
/// After the server was lost, how long to wait before listening again. Whoever waits for a change looks for it meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens until dropped.
#[derive(Debug)]
pub(super) struct Listener(JoinHandle<()>);

impl Listener {
    /// Passes on to `changes` what others than `origin` announce from now on.
    pub async fn start(
        options: &PgConnectOptions,
        origin: Uuid,
        changes: broadcast::Sender<Change>,
    ) -> Result<Self, Error> {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(super::PATIENCE);
        let pool = pool.idle_timeout(None).max_lifetime(None).connect_lazy_with(options.clone());
        let first = listen(&pool).await?;
        Ok(Listener(tokio::spawn(run(pool, first, origin, changes))))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(pool: PgPool, first: PgListener, origin: Uuid, changes: broadcast::Sender<Change>) {
    let mut listening = Ok(first);
    loop {
        match listening {
            Ok(listener) => hear(listener, origin, &changes).await,
            Err(error) => tracing::warn!(%error, "cannot listen to the task database"),
        }
        tokio::time::sleep(PAUSE).await;
        listening = listen(&pool).await;
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener, Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Until the connection is lost.
async fn hear(mut listener: PgListener, origin: Uuid, changes: &broadcast::Sender<Change>) {
    listener.eager_reconnect(false);
    while let Ok(Some(notification)) = listener.try_recv().await {
        for change in read(notification.payload(), origin).into_iter().flatten() {
            // Nobody listens: fine.
            let _ = changes.send(change);
        }
    }
}

/// Announces changes to other processes, in order. Whoever misses one looks for it soon.
#[derive(Debug)]
pub(super) struct Announcer {
    changes: mpsc::Sender<Change>,
}

impl Announcer {
    /// Announces in the name of `origin`, on a connection of its own, until dropped.
    pub fn start(options: &PgConnectOptions, origin: Uuid) -> Self {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(super::PATIENCE);
        let (changes, queue) = mpsc::channel(CHANGES);
        tokio::spawn(announce(pool.connect_lazy_with(options.clone()), queue, origin));
        Announcer { changes }
    }

    pub fn announce(&self, change: Change) {
        // While nobody can be reached, nobody needs to know.
        let _ = self.changes.try_send(change);
    }
}

async fn announce(pool: PgPool, mut queue: mpsc::Receiver<Change>, origin: Uuid) {
    let mut changes = Vec::with_capacity(AT_ONCE);
    while queue.recv_many(&mut changes, AT_ONCE).await > 0 {
        let query = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(write(origin, &changes));
        if let Err(error) = query.execute(&pool).await {
            tracing::debug!(%error, "changes were not announced");
        }
        changes.clear();
    }
}

fn write(origin: Uuid, changes: &[Change]) -> String {
    let mut text = origin.to_string();
    for Change { task, state } in changes {
        text += &format!("\n{task} {state}");
    }
    text
}

/// `None` if it comes from `origin` itself, or is no announcement of ours.
fn read(text: &str, origin: Uuid) -> Option<Vec<Change>> {
    let mut lines = text.lines();
    let from: Uuid = lines.next()?.parse().ok()?;
    let change = |line: &str| {
        let (task, state) = line.split_once(' ')?;
        Some(Change { task: task.parse().ok()?, state: state.parse().ok()? })
    };
    (from != origin).then(|| lines.filter_map(change).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::TaskState;

    #[test]
    fn changes_are_read_as_they_were_written_by_anybody_else_and_fit_a_notification() {
        let (origin, other) = (Uuid::new_v4(), Uuid::new_v4());
        let changes = vec![Change { task: Uuid::now_v7(), state: TaskState::InProgress }; AT_ONCE];
        let text = write(origin, &changes);
        assert!(text.len() < 8000, "{}", text.len());
        assert_eq!(read(&text, other), Some(changes));
        assert_eq!(read(&text, origin), None);
        assert_eq!(read("hello", other), None);
    }
}
