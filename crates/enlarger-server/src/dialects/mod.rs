//! The APIs of this server.

mod comfy;
mod console;
mod images;
mod magnific;
mod sdapi;

use axum::{extract::Request, http::Uri, middleware::Next, response::Response};
use enlarger_service::job::Kind;
use enlarger_tasks::{Task, TaskState};

use crate::{dialect::Dialect, http::ApiError};

/// All of them.
pub(crate) const DIALECTS: &[&dyn Dialect] =
    &[&magnific::Magnific, &comfy::Comfy, &images::Images, &sdapi::Sdapi, &console::Console];

/// The body of a webhook, written by the API that created the task.
pub(crate) fn webhook(task: &Task, state: TaskState, result: Option<&str>) -> Option<Vec<u8>> {
    let kind = Kind::of(task)?;
    let mut bodies = DIALECTS.iter().flat_map(|dialect| dialect.webhooks());
    let (_, body) = bodies.find(|(worded, _)| *worded == kind)?;
    body(task, state, result).ok()
}

/// Requests that no route handles. Clients of other services land here if they are pointed at this server, and most of
/// them show only the message.
pub(crate) async fn not_found(uri: Uri) -> ApiError {
    let told = DIALECTS.iter().find_map(|dialect| dialect.unserved(uri.path()));
    let message = told.unwrap_or_else(|| "there is nothing at this URL".to_owned());
    ApiError { message, ..ApiError::not_found() }.hint("see /openapi.json for all routes, or /docs/api in a browser")
}

/// Writes errors of each API's routes in its own form, wherever in this server they arose.
pub(crate) async fn reword(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    DIALECTS.iter().fold(response, |response, dialect| dialect.reworded(&path, response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_task_has_one_api_that_words_its_webhooks() {
        for kind in Kind::ALL {
            let bodies = DIALECTS.iter().flat_map(|dialect| dialect.webhooks());
            assert_eq!(bodies.filter(|(worded, _)| worded == kind).count(), 1, "{kind:?}");
        }
    }
}
