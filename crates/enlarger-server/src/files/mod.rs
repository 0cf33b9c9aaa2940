//! Reading and uploading files by signed addresses.

mod download;
mod range;
mod routes;
mod serve;
mod view;

pub(crate) use routes::routes;
