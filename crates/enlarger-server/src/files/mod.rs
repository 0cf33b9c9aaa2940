//! Reading and uploading files by signed addresses.

mod range;
mod reads;
pub(crate) mod routes;
mod serve;
pub(crate) mod signed;
mod view;

pub(crate) use reads::Reads;
