//! A task with all its details.

use axum::extract::FromRef;
use enlarger_blobs::Key;
use enlarger_service::{
    favorites::Favorites,
    follow::Follow,
    job::{Job, Made, SourceInfo},
    nodes::Fleet,
    urls::Urls,
};
use enlarger_tasks::{Files, Task, TaskState};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::wire::{self, TaskPlan, TaskProgress, TaskTimings};
use crate::{app::App, http::ApiResult};

/// A task with all its details.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskDetail {
    task_id: Uuid,
    #[schema(inline)]
    status: DetailStatus,
    /// The image's name.
    name: String,
    /// The endpoint it was submitted to: creative, precision-v1, precision-v2, console.
    kind: String,
    /// Size, style (`look`), model, seed and crop.
    request: wire::Request,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    finished_at: Option<Timestamp>,
    /// When its files are deleted. Null for unfinished tasks, and for finished tasks that are kept until they are deleted or the disk budget is reached.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    #[schema(inline)]
    files: FilesNow,
    /// Whether it is a favorite, which the disk budget spares.
    favorite: bool,
    #[schema(required)]
    source: Option<PictureFile>,
    #[schema(required)]
    result: Option<PictureFile>,
    /// How far the result deviates from the source; null until there is a result.
    #[schema(inline, required)]
    invention: Option<DifferenceNow>,
    /// A small copy of the source, at most 512 pixels on a side: JPEG, or PNG if it is transparent.
    #[schema(value_type = Option<String>, format = Uri, required)]
    thumb_url: Option<String>,
    /// While it runs: stage, done and total (parts), fraction, eta_seconds.
    #[schema(value_type = Option<TaskProgress>, required)]
    progress: Option<Value>,
    /// How many tasks are ahead of it; only while waiting.
    #[schema(required)]
    position: Option<u64>,
    /// Estimated seconds until it starts, while waiting.
    #[schema(required)]
    wait_seconds: Option<f64>,
    /// Why it waits longer than its turn: no running worker has what it needs, for example. Null if one can run it, or it is not waiting.
    #[schema(required)]
    held_up: Option<String>,
    /// Estimated seconds of processing.
    estimate_seconds: f64,
    /// The plan: steps, measured statistics (`facts`) and notes.
    #[schema(value_type = Option<TaskPlan>, required)]
    plan: Option<Value>,
    /// What models ran on: the name of a GPU, or the CPU's kernels, with the arithmetic. Null until there is a result.
    #[schema(required)]
    device: Option<String>,
    /// Seconds by stage.
    #[schema(value_type = Option<TaskTimings>, required)]
    timings: Option<Value>,
    /// Why it failed: code, message and hint.
    #[schema(required)]
    error: Option<wire::Failed>,
}

/// A task's status, including cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum DetailStatus {
    Created,
    InProgress,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum FilesNow {
    Present,
    Gone,
}

/// The result, scaled down to the source's size, compared with the source.
#[derive(Debug, Serialize, ToSchema)]
struct DifferenceNow {
    /// Mean absolute difference of all color channels, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    share: f64,
    /// Difference map: a gray PNG of at most 512 pixels on a side, black where nothing changed, white for a difference
    /// of a quarter or more.
    #[schema(value_type = Option<String>, format = Uri, required)]
    map_url: Option<String>,
}

/// A readable image file.
#[derive(Debug, Serialize, ToSchema)]
struct PictureFile {
    width: u32,
    height: u32,
    bytes: u64,
    media_type: String,
    #[schema(format = Uri)]
    url: String,
}

/// Renders the details of tasks.
#[derive(Clone)]
pub(crate) struct Details {
    follow: Follow,
    fleet: Fleet,
    urls: Urls,
    favorites: Favorites,
}

impl FromRef<App> for Details {
    fn from_ref(app: &App) -> Self {
        Self {
            follow: app.follow.clone(),
            fleet: app.fleet.clone(),
            urls: app.urls.clone(),
            favorites: app.favorites.clone(),
        }
    }
}

impl Details {
    /// A task in its current state, with URLs that begin with `base`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn of(&self, task: &Task, base: &str) -> ApiResult<TaskDetail> {
        let place = if task.state == TaskState::Created { self.follow.place(task.id).await? } else { None };
        let held_up = self.fleet.why_waiting(task).await?;
        let (job, made) = (Job::of(task)?, Made::of(task)?);
        let present = task.files == Files::Present;
        let url = |key: Key| self.urls.of_task(base, task, &key);
        let source = made.as_ref().map(|made| &made.source).or(job.source.as_ref()).filter(|_| present);
        let (source, thumb_url) = match source {
            Some(info) => (Some(PictureFile::source(info, url(Key::Source(task.id)))), Some(url(Key::Thumb(task.id)))),
            None => (None, None),
        };
        let result = made.as_ref().filter(|_| present);
        let result = result.map(|made| PictureFile::result(made, url(Key::Result(task.id, made.file.clone()))));
        let invention = made.as_ref().and_then(|made| made.invention).map(|difference| DifferenceNow {
            share: difference.share,
            map_url: present.then(|| url(Key::Map(task.id, difference.attempt))),
        });
        let mut plan = task.plan.clone();
        if let (Some(Value::Object(plan)), Some(made)) = (&mut plan, &made) {
            plan.insert("notes".into(), made.notes.clone().into());
        }
        Ok(TaskDetail {
            task_id: task.id,
            status: task.state.into(),
            name: job.name.unwrap_or_else(|| task.id.to_string()),
            kind: task.kind.clone(),
            request: job.request.into(),
            created_at: task.created_at,
            started_at: task.started_at,
            finished_at: task.finished_at,
            expires_at: task.expires_at,
            favorite: self.favorites.has(task.id),
            files: if present { FilesNow::Present } else { FilesNow::Gone },
            source,
            thumb_url,
            result,
            invention,
            progress: task.progress.clone().filter(|_| task.state == TaskState::InProgress),
            position: place.map(|(ahead, _)| ahead),
            wait_seconds: place.map(|(_, seconds)| seconds),
            held_up,
            estimate_seconds: job.estimate_seconds,
            plan,
            device: made.as_ref().and_then(|made| made.device.clone()),
            timings: made.map(|made| made.timings),
            error: task.error.clone().map(Into::into),
        })
    }
}

impl PictureFile {
    fn source(info: &SourceInfo, url: String) -> Self {
        let SourceInfo { width, height, media_type, bytes } = info.clone();
        Self { width, height, bytes, media_type, url }
    }

    fn result(made: &Made, url: String) -> Self {
        let (width, height, bytes) = (made.width, made.height, made.bytes);
        Self { width, height, bytes, media_type: made.media_type.clone(), url }
    }
}

impl From<TaskState> for DetailStatus {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Created => Self::Created,
            TaskState::InProgress => Self::InProgress,
            TaskState::Completed => Self::Completed,
            TaskState::Failed => Self::Failed,
            TaskState::Cancelled => Self::Cancelled,
        }
    }
}
