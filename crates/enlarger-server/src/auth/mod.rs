//! Who may call: API keys, bearer tokens, and what browsers send by themselves.

mod authority;
mod browsers;
mod credentials;
mod jwt;
pub mod keys;

pub(crate) use authority::{Authority, Caller, require};
pub(crate) use browsers::{cors, guard_browsers};
