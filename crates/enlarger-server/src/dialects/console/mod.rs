//! Our own routes under `/api/`: what the page needs beyond the other dialects, open to every client.

mod ask;
mod checkpoints;
mod detail;
mod events;
mod keys;
mod models;
mod presets;
mod preview;
mod status;
mod tasks;
mod wire;

use enlarger_service::job::Kind;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    dialect::{Dialect, WebhookBody},
    dialects::magnific,
};

/// Our own API.
pub(super) struct Console;

impl Dialect for Console {
    fn routes(&self) -> OpenApiRouter<App> {
        OpenApiRouter::new()
            .routes(routes!(tasks::create, tasks::list))
            .routes(routes!(tasks::get, tasks::delete))
            .routes(routes!(tasks::cancel))
            .routes(routes!(tasks::retry))
            .routes(routes!(tasks::favor, tasks::disfavor))
            .routes(routes!(events::task_events))
            .routes(routes!(events::all_events))
            .routes(routes!(preview::preview))
            .routes(routes!(preview::estimate))
            .routes(routes!(models::list, models::add_files))
            .routes(routes!(models::add, models::remove))
            .routes(routes!(checkpoints::list))
            .routes(routes!(presets::list, presets::replace))
            .routes(routes!(keys::list, keys::create))
            .routes(routes!(keys::revoke))
    }

    /// Public routes, which return more to callers with a key.
    fn public_routes(&self) -> OpenApiRouter<App> {
        OpenApiRouter::new().routes(routes!(status::status))
    }

    /// As Magnific's, so that receivers need not know which API a task came by.
    fn webhooks(&self) -> &[(Kind, WebhookBody)] {
        &[(Kind::Console, magnific::wire::webhook)]
    }
}
