//! The dialect of Comfy: storage for uploads, and its router's catalogue and queue.

mod catalogue;
mod errors;
mod model;
mod queue;
mod storage;

use axum::response::Response;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, dialect::Dialect};

/// The dialect of Comfy.
pub(super) struct Comfy;

impl Dialect for Comfy {
    fn routes(&self) -> OpenApiRouter<App> {
        OpenApiRouter::new()
            .routes(routes!(storage::create_storage))
            .routes(routes!(storage::request_urls))
            .routes(routes!(storage::list_uploads))
            .routes(routes!(catalogue::list_models))
            .routes(routes!(catalogue::get_model, queue::run))
            .routes(routes!(catalogue::model_schema))
            .routes(routes!(queue::submit_request))
            .routes(routes!(queue::status))
            .routes(routes!(queue::result))
            .routes(routes!(queue::cancel))
    }

    fn reworded(&self, path: &str, response: Response) -> Response {
        errors::in_routers_form(path, response)
    }
}
