//! Server status: one call for the page's settings and health.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{FromRef, State},
    http::HeaderMap,
};
use enlarger_pipeline::{Enlarger, LaneStatus, Memory, cores};
use enlarger_service::{
    files::Files,
    job::{CREATIVE_PIXELS, PRECISION_SIDE},
    nodes::{Fleet, Machine as MachineOfNode, short_id},
    saver::Unsaved,
};
use enlarger_tasks::Upkeep;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    auth::Authority,
    config::Config,
    http::{AnyError, ApiResult, blocking},
};

/// Server status. Without a key, where one is required, only `version` and `auth`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    version: &'static str,
    auth: AuthStatus,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    inside: Option<Inside>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AuthStatus {
    /// Whether credentials are required.
    required: bool,
    /// Whether this caller may manage keys and models.
    admin: bool,
}

/// Details for authenticated callers.
#[derive(Debug, Serialize, ToSchema)]
struct Inside {
    uptime_seconds: u64,
    limits: LimitStatus,
    machine: Machine,
    storage: Storage,
    /// How long a finished task's files are kept. Null: until they are deleted or `disk_budget_bytes` is reached.
    #[schema(required)]
    retention_seconds: Option<u64>,
    /// Disk budget in bytes when finished tasks are kept; the tasks that finished first are deleted first. Null: no
    /// limit.
    #[schema(required)]
    disk_budget_bytes: Option<u64>,
    history_seconds: u64,
    queue: Queue,
    /// All processes that are alive, the longest running first.
    nodes: Vec<Node>,
    checks: Vec<Check>,
    listen: String,
    public_url: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct LimitStatus {
    max_body_bytes: u64,
    max_upload_bytes: u64,
    max_source_pixels: u64,
    max_creative_pixels: u64,
    max_precision_side: u32,
    /// Largest result in megapixels on the page and under `/api/`. Null: as large as memory allows.
    #[schema(required)]
    max_result_megapixels: Option<u64>,
    queue: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Machine {
    /// What jobs run on, with its arithmetic.
    backend: String,
    /// All that jobs run on, the fastest first.
    devices: Vec<DeviceStatus>,
    threads: usize,
    cores: usize,
    memory_total: u64,
    memory_available: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct DeviceStatus {
    /// A GPU's name, or the CPU's kernels, with the arithmetic.
    name: String,
    /// How many jobs it takes at once.
    slots: usize,
    /// How many it has.
    running: usize,
    /// How a GPU does. Null: it is the CPU.
    #[schema(required)]
    gpu: Option<GpuStatus>,
}

#[derive(Debug, Serialize, ToSchema)]
struct GpuStatus {
    /// The interface and the driver's name and version.
    driver: String,
    /// The kind of kernels.
    kernel: &'static str,
    /// Billion operations per second as its work has shown. Null: it has not had any yet.
    #[schema(required)]
    gflops: Option<f64>,
    /// How often it was lost since the server started.
    losses: u64,
    /// How often the CPU took over since then.
    fallbacks: u64,
    /// Whether the next job runs on it. If not, the CPU runs it.
    in_use: bool,
    /// Why the CPU took over the last time. Null: it never did.
    #[schema(required)]
    trouble: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Storage {
    data_dir: String,
    /// Null if the storage cannot be reached.
    #[schema(required)]
    used_bytes: Option<u64>,
    /// Null if the storage has no limit, or cannot be reached.
    #[schema(required)]
    free_bytes: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Queue {
    waiting: u64,
    running: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
    seconds_waiting: f64,
    webhooks_pending: u64,
}

/// A process of this service.
#[derive(Debug, Serialize, ToSchema)]
struct Node {
    /// Its name for `enlarger admin`, new at each start.
    id: String,
    host: String,
    version: String,
    /// `all`, `api` or `worker`.
    role: String,
    /// Whether it runs tasks.
    works: bool,
    /// Whether it was told to claim no more tasks.
    draining: bool,
    /// What models run on.
    device: String,
    /// Threads per job.
    threads: usize,
    /// Memory of its machine, in bytes.
    memory_total: u64,
    /// How many models and checkpoints it has.
    models: usize,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
}

impl From<&enlarger_tasks::Node> for Node {
    fn from(node: &enlarger_tasks::Node) -> Self {
        let about = &node.about;
        // A later version may say it in another way.
        let machine: MachineOfNode = serde_json::from_value(about.details.clone()).unwrap_or_default();
        Self {
            id: short_id(node),
            host: about.host.clone(),
            version: about.version.clone(),
            role: about.role.clone(),
            works: about.works,
            draining: node.draining,
            device: machine.device,
            threads: machine.threads,
            memory_total: machine.memory,
            models: about.can.len(),
            started_at: node.started_at,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct Check {
    name: &'static str,
    ok: bool,
    message: String,
}

#[utoipa::path(
    get, path = "/api/status", operation_id = "getStatus", tag = "Console", summary = "Get server status",
    responses(
        (status = 200, description = "The status", body = Status),
        AnyError,
    ),
)]
pub(crate) async fn status(
    State(auth): State<Arc<Authority>>,
    State(watched): State<Watched>,
    headers: HeaderMap,
) -> ApiResult<Json<Status>> {
    let required = auth.required();
    let caller = auth.caller(&headers).await.ok();
    let admin = caller.as_ref().is_some_and(|caller| caller.admin);
    let inside = if caller.is_some() { Some(inside(&watched).await?) } else { None };
    Ok(Json(Status { version: env!("CARGO_PKG_VERSION"), auth: AuthStatus { required, admin }, inside }))
}

/// What is looked at.
#[derive(Clone)]
pub(crate) struct Watched {
    config: Arc<Config>,
    upkeep: Arc<dyn Upkeep>,
    fleet: Fleet,
    files: Files,
    unsaved: Option<Unsaved>,
    enlarger: Arc<Enlarger>,
    started: Instant,
}

impl FromRef<App> for Watched {
    fn from_ref(app: &App) -> Self {
        Self {
            config: app.config.clone(),
            upkeep: app.upkeep.clone(),
            fleet: app.fleet.clone(),
            files: app.files.clone(),
            unsaved: app.unsaved.clone(),
            enlarger: app.enlarger.clone(),
            started: app.started,
        }
    }
}

async fn inside(watched: &Watched) -> ApiResult<Inside> {
    let config = &watched.config;
    let counts = watched.upkeep.counts().await?;
    let written = watched.upkeep.ping().await;
    let enlarger = watched.enlarger.clone();
    let machine = blocking(move || Ok(machine_status(&enlarger))).await?;
    let disk = match watched.files.ping().await {
        Ok(()) => Check { name: "files", ok: true, message: "can be written".into() },
        Err(error) => Check { name: "files", ok: false, message: error.to_string() },
    };
    let usage = watched.files.blobs.usage().await.ok();
    let storage = Storage {
        data_dir: config.data_dir.display().to_string(),
        used_bytes: usage.map(|usage| usage.used),
        free_bytes: usage.and_then(|usage| usage.free),
    };
    let database = Check {
        name: "database",
        ok: written.is_ok(),
        message: written.map_or_else(|error| error.to_string(), |()| "can be written".into()),
    };
    let saved = watched.unsaved.as_ref().map(|unsaved| match unsaved.state() {
        Ok(message) => Check { name: "save_to", ok: true, message },
        Err(message) => Check { name: "save_to", ok: false, message },
    });
    let failed = machine.devices.iter().filter_map(|device| {
        let gpu = device.gpu.as_ref().filter(|gpu| !gpu.in_use)?;
        let why = gpu.trouble.as_deref().unwrap_or_default();
        Some(format!("the GPU {} failed too often, and the CPU does its work: {why}", device.name))
    });
    let failed: Vec<String> = failed.collect();
    let gpus = (!failed.is_empty()).then(|| Check { name: "gpu", ok: false, message: failed.join("; ") });
    Ok(Inside {
        uptime_seconds: watched.started.elapsed().as_secs(),
        limits: LimitStatus {
            max_body_bytes: config.max_body_mb << 20,
            max_upload_bytes: config.max_upload_mb << 20,
            max_source_pixels: config.max_source_megapixels * 1_000_000,
            max_creative_pixels: CREATIVE_PIXELS,
            max_precision_side: PRECISION_SIDE,
            max_result_megapixels: Some(config.max_result_megapixels).filter(|limit| *limit > 0),
            queue: config.queue_limit,
        },
        machine,
        storage,
        retention_seconds: config.retention().map(|retention| retention.as_secs()),
        disk_budget_bytes: config.disk_budget(),
        history_seconds: config.history_days.saturating_mul(86_400),
        queue: Queue {
            waiting: counts.created,
            running: counts.in_progress,
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
            seconds_waiting: counts.queued_cost,
            webhooks_pending: counts.outbox_pending,
        },
        nodes: watched.fleet.nodes().await?.iter().map(Node::from).collect(),
        checks: [Some(database), Some(disk), saved, gpus].into_iter().flatten().collect(),
        listen: config.listen.to_string(),
        public_url: config.public_url.clone(),
    })
}

fn machine_status(enlarger: &Enlarger) -> Machine {
    let memory = Memory::now();
    Machine {
        backend: enlarger.device().to_string(),
        devices: enlarger.lanes().into_iter().map(device_status).collect(),
        threads: enlarger.threads(),
        cores: cores().get(),
        memory_total: memory.total,
        memory_available: memory.available,
    }
}

fn device_status(lane: LaneStatus) -> DeviceStatus {
    let gpu = lane.gpu.map(|gpu| GpuStatus {
        driver: gpu.driver,
        kernel: gpu.kernel,
        gflops: gpu.rate.map(|rate| rate / 1e9),
        losses: gpu.losses,
        fallbacks: gpu.fallbacks,
        in_use: gpu.in_use,
        trouble: gpu.trouble,
    });
    DeviceStatus { name: lane.device, slots: lane.slots, running: lane.running, gpu }
}
