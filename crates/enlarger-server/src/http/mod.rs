//! The shared parts of every API: bodies, fields, paging, errors, request ids, connections. Knows no API.

mod address;
mod body;
mod connections;
mod error;
mod extract;
mod fields;
mod form;
mod knobs;
mod paging;
mod request_id;
mod responses;
mod turns;

pub(crate) use address::{BaseUrl, with_plain_path};
pub(crate) use body::{Bodies, Spooled};
pub(crate) use connections::serve;
pub(crate) use error::{ApiError, ApiResult, ERROR_TYPE, ErrorBody, InvalidParam, reworded, with_json};
pub(crate) use extract::{Path, Query};
pub(crate) use fields::Fields;
pub(crate) use form::Form;
pub(crate) use knobs::with_knobs;
pub(crate) use paging::Paging;
pub(crate) use request_id::with_request_id;
pub(crate) use responses::{AnyError, ReadErrors, WriteErrors, common_errors};
pub(crate) use turns::{Turns, blocking};
