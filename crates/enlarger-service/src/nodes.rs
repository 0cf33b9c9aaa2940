//! This process among those that share its database: says that it is alive and what it can run, and learns whether it is to drain.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use enlarger_pipeline::{Enlarger, Memory, cores};
use enlarger_tasks::{About, Node, Nodes, StoreError, Task, TaskState};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::abilities::abilities;

/// How often to say that this process is alive: well within [`enlarger_tasks::NODE_LIFE`].
const BEAT: Duration = Duration::from_secs(5);
/// How often to look at what this machine can run: models may be added, and checkpoints copied into folders.
const LOOK: Duration = Duration::from_secs(60);
/// How long what is known of other processes is good enough.
const FRESH: Duration = Duration::from_secs(2);

/// More about a process, for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// What models run on.
    pub device: String,
    /// Threads per job.
    pub threads: usize,
    /// Cores of its CPU.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// How many tasks it runs at once.
    pub jobs: usize,
}

/// By which people name a process: the first digits of its id.
pub fn short_id(node: &Node) -> String {
    short(node.id)
}

fn short(id: Uuid) -> String {
    id.simple().to_string()[..8].to_owned()
}

/// The name of this machine in its network; empty if it does not tell.
pub fn host() -> String {
    sysinfo::System::host_name().unwrap_or_default()
}

/// What a worker has to know before it claims a task.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    /// What it has that tasks may need.
    can: BTreeSet<String>,
    draining: bool,
}

/// This process. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    nodes: Arc<dyn Nodes>,
    enlarger: Arc<Enlarger>,
    id: Uuid,
    about: Arc<About>,
    state: watch::Sender<State>,
}

impl Presence {
    /// As [`short_id`], of this process.
    pub fn short_id(&self) -> String {
        short(self.id)
    }

    /// Registers this process, which runs `jobs` tasks at once or none.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn register(
        nodes: Arc<dyn Nodes>,
        enlarger: Arc<Enlarger>,
        role: &str,
        jobs: Option<usize>,
        signing: String,
    ) -> Result<Self, StoreError> {
        let machine = Machine {
            device: enlarger.device().to_string(),
            threads: enlarger.threads(),
            cores: cores().get(),
            memory: Memory::now().total,
            jobs: jobs.unwrap_or(0),
        };
        let about = About {
            host: host(),
            process: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: role.to_owned(),
            works: jobs.is_some(),
            can: BTreeSet::new(),
            signing,
            details: serde_json::to_value(machine).unwrap_or_default(),
        };
        let presence =
            Self { nodes, enlarger, id: Uuid::new_v4(), about: Arc::new(about), state: watch::Sender::default() };
        match presence.beat().await {
            // What is there can be served from a full disk, too.
            Err(error) if error.is_transient() => tracing::warn!(%error, "this process could not be registered yet"),
            beat => beat?,
        }
        Ok(presence)
    }

    /// The other processes.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn others(&self) -> Result<Vec<Node>, StoreError> {
        let mut nodes = self.nodes.nodes().await?;
        nodes.retain(|node| node.id != self.id);
        Ok(nodes)
    }

    /// Says from time to time that this process is alive, until dropped.
    pub async fn run(self) {
        let mut looked: Option<Instant> = None;
        loop {
            if self.about.works && looked.is_none_or(|at| at.elapsed() >= LOOK) {
                let enlarger = self.enlarger.clone();
                if let Ok(can) = tokio::task::spawn_blocking(move || abilities(&enlarger)).await {
                    self.state.send_modify(|state| state.can = can);
                }
                looked = Some(Instant::now());
            }
            if let Err(error) = self.beat().await {
                tracing::warn!(%error, "this process cannot say that it is alive");
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn beat(&self) -> Result<(), StoreError> {
        let can = self.state.borrow().can.clone();
        let node = self.nodes.beat(self.id, &About { can, ..(*self.about).clone() }).await?;
        self.state.send_if_modified(|state| {
            let changed = state.draining != node.draining;
            if changed {
                tracing::info!(draining = node.draining, "told whether to claim more tasks");
            }
            state.draining = node.draining;
            changed
        });
        Ok(())
    }

    /// What this process may claim: tasks that need no more than this. `None` while it is to claim none.
    pub fn can_claim(&self) -> Option<BTreeSet<String>> {
        let state = self.state.borrow();
        (!state.draining).then(|| state.can.clone())
    }

    /// Ends its registration.
    pub async fn leave(&self) {
        // If it does not get through, others notice by themselves.
        let _ = self.nodes.leave(self.id).await;
    }
}

/// When processes were looked up, and who they were.
type Known = (Instant, Arc<[Node]>);

/// What is known of all processes. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    nodes: Arc<dyn Nodes>,
    known: Arc<tokio::sync::Mutex<Option<Known>>>,
}

impl Fleet {
    /// Reads from this store.
    pub fn new(nodes: Arc<dyn Nodes>) -> Self {
        Self { nodes, known: Arc::default() }
    }

    /// All living processes, as they were a moment ago.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn nodes(&self) -> Result<Arc<[Node]>, StoreError> {
        let mut known = self.known.lock().await;
        if let Some((at, nodes)) = &*known
            && at.elapsed() < FRESH
        {
            return Ok(nodes.clone());
        }
        let nodes: Arc<[Node]> = self.nodes.nodes().await?.into();
        *known = Some((Instant::now(), nodes.clone()));
        Ok(nodes)
    }

    /// Why a waiting task waits longer than its turn; `None` if some worker can run it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn why_waiting(&self, task: &Task) -> Result<Option<String>, StoreError> {
        if task.state != TaskState::Created {
            return Ok(None);
        }
        Ok(why_waiting(&self.nodes().await?, task))
    }
}

fn why_waiting(nodes: &[Node], task: &Task) -> Option<String> {
    let workers: Vec<&Node> = nodes.iter().filter(|node| node.about.works).collect();
    if workers.is_empty() {
        return Some("no worker is running".to_owned());
    }
    let able: Vec<&&Node> = workers.iter().filter(|node| node.can_run(task)).collect();
    if able.is_empty() {
        let missing = |need: &&String| workers.iter().all(|node| !node.about.can.contains(*need));
        let lacking: Vec<&str> = task.needs.iter().filter(missing).map(String::as_str).collect();
        let all: Vec<&str> = task.needs.iter().map(String::as_str).collect();
        return Some(match lacking[..] {
            [] => format!("no running worker has all of this: {}", all.join(", ")),
            _ => format!("no running worker has {}", lacking.join(" or ")),
        });
    }
    able.iter().all(|node| node.draining).then(|| "every worker that can run it is draining".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tasks;

    #[tokio::test]
    async fn a_task_that_no_living_worker_can_run_says_what_is_missing() {
        let tasks = Tasks::new().await;
        let task = tasks.submit(&["a", "b"]).await;
        let nodes = &tasks.store.nodes;
        let why = async || {
            let fleet = Fleet::new(nodes.clone());
            fleet.why_waiting(&task).await.unwrap().unwrap_or_default()
        };
        assert_eq!(why().await, "no worker is running");
        let beat = async |id, works, can: &[&str]| {
            let can = can.iter().map(ToString::to_string).collect();
            nodes.beat(id, &About { works, can, ..About::default() }).await.unwrap();
        };
        let [api, one, two] = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
        beat(api, false, &["a", "b"]).await;
        assert_eq!(why().await, "no worker is running");
        beat(one, true, &["a"]).await;
        assert_eq!(why().await, "no running worker has b");
        beat(two, true, &["b"]).await;
        assert_eq!(why().await, "no running worker has all of this: a, b");
        beat(two, true, &["a", "b"]).await;
        assert_eq!(why().await, "");
        nodes.drain(two, true).await.unwrap();
        assert_eq!(why().await, "every worker that can run it is draining");
    }
}
