//! All outgoing traffic.
//!
//! Clients give URLs of images to fetch and receivers to call. None of them may lead into the network of this machine.
//! [`Policy`] says which addresses are public; [`Fetcher`] and [`Webhooks`] reach only those: each hop's name is
//! resolved here, each of its records is checked, and the connection is pinned to a checked address.

mod body;
mod client;
mod error;
mod fetch;
mod policy;
mod resolve;
mod webhook;

pub use error::EgressError;
pub use fetch::{Fetched, Fetcher};
pub use policy::{Policy, check_url};
pub use resolve::{Resolve, SystemResolver};
pub use webhook::{Delivered, Secret, TRIES, Webhooks, next_try, signature};
