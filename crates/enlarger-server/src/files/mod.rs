//! Downloading and uploading files with signed URLs.

mod download;
mod range;
mod routes;
mod serve;
mod view;

pub(crate) use routes::{Reader, routes};
