//! Tasks on the wire. Frozen, because we cannot change existing clients.

use enlarger_service::urls::Urls;
use enlarger_tasks::{Task, TaskState};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::ApiResult;

/// A task's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = FreepikTaskStatus)]
pub(crate) enum WireStatus {
    Created,
    InProgress,
    Completed,
    Failed,
}

impl From<TaskState> for WireStatus {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Created => Self::Created,
            TaskState::InProgress => Self::InProgress,
            TaskState::Completed => Self::Completed,
            // The dialect has no cancelled state; clients stop at FAILED.
            TaskState::Failed | TaskState::Cancelled => Self::Failed,
        }
    }
}

/// A task, wrapped as clients expect.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FreepikTaskResponse)]
pub(crate) struct TaskResponse {
    pub data: TaskData,
}

/// A task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FreepikTaskData)]
pub(crate) struct TaskData {
    /// The task's id.
    pub task_id: Uuid,
    #[schema(inline)]
    pub status: WireStatus,
    /// URLs to the generated images. Empty until COMPLETED.
    #[schema(schema_with = urls)]
    pub generated: Vec<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// Why it failed, repeated here for clients that expect it in this field; or a note that the files were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<String>,
}

fn urls() -> utoipa::openapi::schema::Array {
    use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat, Type, schema::ArrayBuilder};
    let uri = SchemaFormat::KnownFormat(KnownFormat::Uri);
    let item = ObjectBuilder::new().schema_type(Type::String).format(Some(uri));
    ArrayBuilder::new().items(item).description(Some("URLs to the generated images.")).build()
}

impl TaskData {
    /// As a submission is answered.
    pub fn created(task_id: Uuid) -> Self {
        Self { task_id, status: WireStatus::Created, generated: Vec::new(), error: None, message: None }
    }

    /// In its current state, with URLs that begin with `base`.
    pub async fn of(urls: &Urls, task: &Task, base: &str) -> ApiResult<Self> {
        let result = if task.state == TaskState::Completed { urls.result(base, task)? } else { None };
        Ok(Self::at(task, task.state, result.as_deref()))
    }

    /// At `state`, past or current, with the URL of its result once there is one.
    pub fn at(task: &Task, state: TaskState, result: Option<&str>) -> Self {
        // Clients crash on a COMPLETED task without URLs, so the URLs stay after the files are deleted, and then return
        // 410.
        let generated: Vec<String> = result.map(str::to_owned).into_iter().collect();
        let mut data = Self { status: state.into(), generated, ..Self::created(task.id) };
        if data.status == WireStatus::Failed {
            let reason = match &task.error {
                Some(error) => {
                    error.hint.as_ref().map_or(error.message.clone(), |hint| format!("{}. Hint: {hint}", error.message))
                }
                None => "the task failed".to_owned(),
            };
            (data.error, data.message) = (Some(reason.clone()), Some(reason));
        } else if task.state == TaskState::Completed && task.files != enlarger_tasks::Files::Present {
            data.message = Some("the files of this task have expired and were deleted".to_owned());
        }
        data
    }
}

/// The body of a webhook.
pub(crate) fn webhook(task: &Task, state: TaskState, result: Option<&str>) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&TaskData::at(task, state, result))
}

/// A list of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskList {
    pub data: Vec<TaskSummary>,
}

/// A task in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskSummary {
    pub task_id: Uuid,
    #[schema(inline)]
    pub status: WireStatus,
}
