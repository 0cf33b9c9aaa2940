//! `enlarger admin`: works on the database and the storage of a server, whether it is running or not.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use enlarger_server::{Config, ConfigLayer, Node, config::Hidden, has_database, open_shared, open_store, short_id};
use enlarger_tasks::{ListQuery, Retried, Scope, Store, TaskState};
use serde_json::json;
use uuid::Uuid;

use crate::{dirs, printer::Hinted, serve};

/// Look after a server: its processes, queue and history.
///
/// Uses the database and storage that the server's settings name.
#[derive(Debug, Args)]
pub struct AdminArgs {
    #[command(subcommand)]
    command: Command,
    /// Configuration file of the server [default: enlarger/config.toml in the user's folder of settings, if it exists].
    #[arg(long, global = true, value_name = "FILE", env = "ENLARGER_CONFIG")]
    config: Option<PathBuf>,
    /// Data folder of the server [default: the platform's folder for application data].
    #[arg(long, global = true, value_name = "DIR", env = "ENLARGER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Database of the server [default: a file in its data folder].
    #[arg(long, global = true, value_name = "URL", env = "ENLARGER_DATABASE", hide_env_values = true)]
    database: Option<Hidden>,
    /// Storage of the server [default: its data folder].
    #[arg(long, global = true, value_name = "URL", env = "ENLARGER_STORAGE")]
    storage: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the queue, the history and all running processes.
    Stats {
        /// Print a JSON object to standard output.
        #[arg(long)]
        json: bool,
    },
    /// Let a process finish its jobs without claiming more, for example before its machine is stopped.
    Drain {
        /// The process, as `stats` shows it.
        node: String,
        /// Let it claim jobs again.
        #[arg(long)]
        undo: bool,
    },
    /// Queue failed jobs again.
    Requeue {
        /// These jobs.
        #[arg(value_name = "JOB", required_unless_present = "all_failed")]
        jobs: Vec<Uuid>,
        /// All failed jobs.
        #[arg(long, conflicts_with = "jobs")]
        all_failed: bool,
    },
    /// Delete finished jobs and their files.
    Prune {
        /// Those that finished at least this many days ago.
        #[arg(long, value_name = "N")]
        days: u64,
    },
}

/// Runs the command.
pub fn run(args: AdminArgs) -> anyhow::Result<ExitCode> {
    let layer = ConfigLayer {
        data_dir: args.data_dir,
        database: args.database,
        storage: args.storage,
        ..ConfigLayer::default()
    };
    let config = serve::load(layer, args.config.or_else(dirs::config_file).as_deref())?;
    if config.database.reveal().is_empty() && !has_database(&config.data_dir) {
        return Err(Hinted::usage(
            format!("no server has kept its jobs in {}", config.data_dir.display()),
            "name its folder with --data-dir, or its database with --database",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.command {
            Command::Stats { json } => stats(&open_store(&config).await?, json).await?,
            Command::Drain { node, undo } => drain(&open_store(&config).await?, &node, !undo).await?,
            Command::Requeue { jobs, .. } => return requeue(&open_store(&config).await?, jobs).await,
            Command::Prune { days } => prune(&config, days).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn stats(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let (counts, nodes) = (store.upkeep.counts().await?, store.nodes.nodes().await?);
    if as_json {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| json!({ "id": short_id(node), "draining": node.draining, "started_at": node.started_at, "about": node.about }))
            .collect();
        let stats = json!({
            "queue": {
                "waiting": counts.created, "running": counts.in_progress, "seconds_waiting": counts.queued_cost,
                "webhooks_pending": counts.outbox_pending,
            },
            "history": { "completed": counts.completed, "failed": counts.failed, "cancelled": counts.cancelled },
            "nodes": nodes,
        });
        println!("{stats:#}");
        return Ok(());
    }
    println!("waiting    {:>9}   about {:.0} s of work", counts.created, counts.queued_cost);
    println!("running    {:>9}", counts.in_progress);
    println!("completed  {:>9}", counts.completed);
    println!("failed     {:>9}", counts.failed);
    println!("cancelled  {:>9}", counts.cancelled);
    println!("webhooks   {:>9}   not delivered yet", counts.outbox_pending);
    if nodes.is_empty() {
        say!("No process is running.");
    }
    let width = nodes.iter().map(|node| node.about.host.chars().count()).max().unwrap_or(0);
    for node in &nodes {
        let state = if node.draining { "  draining" } else { "" };
        let about = &node.about;
        println!(
            "{}  {:6}  {:width$}  process {:<7}  {}  since {:.0}{state}",
            short_id(node),
            about.role,
            about.host,
            about.process,
            about.version,
            node.started_at
        );
    }
    Ok(())
}

async fn drain(store: &Store, name: &str, draining: bool) -> anyhow::Result<()> {
    let nodes = store.nodes.nodes().await?;
    let meant: Vec<&Node> =
        nodes.iter().filter(|node| node.id.simple().to_string().starts_with(&name.to_lowercase())).collect();
    let [node] = meant[..] else {
        let names: Vec<String> = nodes.iter().map(short_id).collect();
        let hint = if names.is_empty() {
            "no process is running".to_owned()
        } else {
            format!("running: {}", names.join(", "))
        };
        return Err(Hinted::error(
            format!("{} running processes have an id that begins with `{name}`", meant.len()),
            hint,
        ));
    };
    if !node.about.works {
        return Err(Hinted::error(format!("{name} runs no jobs"), "drain a process whose role is `worker` or `all`"));
    }
    store.nodes.drain(node.id, draining).await?;
    let what = if draining { "claims no more jobs" } else { "claims jobs again" };
    println!("{} on {} {what} within 5 s", short_id(node), node.about.host);
    Ok(())
}

async fn requeue(store: &Store, mut jobs: Vec<Uuid>) -> anyhow::Result<ExitCode> {
    if jobs.is_empty() {
        // All are noted first: those that are queued again leave the list.
        let mut query = ListQuery { states: vec![TaskState::Failed], per_page: 1000, ..ListQuery::default() };
        loop {
            let page = store.queue.list(&query, &Scope::All).await?;
            if page.tasks.is_empty() {
                break;
            }
            jobs.extend(page.tasks.iter().map(|task| task.id));
            query.page += 1;
        }
        // The first to fail goes first.
        jobs.reverse();
    }
    let (mut queued, mut skipped) = (0, 0);
    for id in jobs {
        let why = match store.queue.retry(id, &Scope::All).await? {
            Retried::Queued(_) => {
                queued += 1;
                continue;
            }
            Retried::InputGone(_) => "its image has been deleted".to_owned(),
            Retried::NotRetryable(task) => format!("it is {}, not failed", task.state),
            Retried::NotFound => "there is no such job".to_owned(),
            Retried::QueueFull(limit) => {
                let seconds = limit.retry_after.as_secs();
                let hint = format!("run the same command again in {seconds} s, or raise `queue_limit`");
                return Err(Hinted::error(format!("the queue is full; {queued} jobs were queued again"), hint));
            }
        };
        say!("{id}: {why}");
        skipped += 1;
    }
    println!("{queued} jobs queued again, {skipped} skipped");
    Ok(ExitCode::from(u8::from(queued == 0 && skipped > 0)))
}

async fn prune(config: &Config, days: u64) -> anyhow::Result<()> {
    const BATCH: u32 = 100;
    let shared = open_shared(config).await?;
    let ended = Duration::from_secs(days.saturating_mul(86_400));
    let (mut forgotten, mut deleted) = (0, 0);
    loop {
        let old = shared.store.upkeep.forget(ended, BATCH).await?;
        forgotten += old;
        let expired = shared.store.queue.take_expired(BATCH).await?;
        for task in &expired {
            shared.files.blobs.delete_task(task.id).await?;
            shared.store.queue.files_deleted(task.id).await?;
            deleted += 1;
        }
        if old == 0 && expired.is_empty() {
            break;
        }
    }
    shared.store.upkeep.prune().await?;
    println!("{forgotten} jobs removed, files of {deleted} deleted");
    Ok(())
}
