//! An API is a folder under `dialects`, with an implementation of this trait, and a line in the list there.

use axum::response::Response;
use enlarger_service::job::Kind;
use enlarger_tasks::{Task, TaskState};
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// The body of a webhook about a task, at this status, with the URL of its result once there is one.
pub(crate) type WebhookBody = fn(&Task, TaskState, result: Option<&str>) -> serde_json::Result<Vec<u8>>;

/// An API. Its handlers translate: a body into what [`crate::submit`] takes, a task into the API's own form.
pub(crate) trait Dialect: Sync {
    /// Routes that require credentials.
    fn routes(&self) -> OpenApiRouter<App>;

    /// Routes that check access themselves, or are public.
    fn public_routes(&self) -> OpenApiRouter<App> {
        OpenApiRouter::new()
    }

    /// The kinds of tasks whose webhooks it writes, with the function for each.
    fn webhooks(&self) -> &[(Kind, WebhookBody)] {
        &[]
    }

    /// The message for a client that requests a path of this vendor which is not served here.
    fn unserved(&self, path: &str) -> Option<String> {
        let _ = path;
        None
    }

    /// An answer to a request for `path` with its errors as this API words them.
    fn reworded(&self, path: &str, response: Response) -> Response {
        let _ = path;
        response
    }
}
