//! The service behind every API, without HTTP: APIs translate requests into calls of this crate, and its results into
//! responses.
//!
//! ```text
//!   submit::Desk ──▶ Queue ──▶ worker::Worker ──▶ Queue, BlobStore
//!    ▲ intake: the image                │ apart: a suspect in a process of its own
//!    │                                  ▼
//!   API ◀── follow, urls ──────── outbox::Sender: webhooks    sweeper::Sweeper: what has expired
//! ```
//!
//! * [`submit`] is the one way into the queue, [`job`] what is stored with a task, with the limits of each kind.
//! * [`worker`] claims, fetches, runs, publishes, commits; [`relay`] has another service run; [`outbox`] sends webhooks; [`sweeper`] deletes what is due.
//! * [`follow`] waits for tasks, [`polls`] records which clients still poll, [`reads`] what is being downloaded.
//! * [`urls`] makes the URLs of files and [`signed`] signs them.
//!
//! Each of these is a struct that is handed its dependencies, so one process can run several services:
//!
//! ```
//! use std::time::Duration;
//!
//! use enlarger_blobs::{Key, Right};
//! use enlarger_service::{signed::Signer, urls::Urls};
//! use jiff::{SignedDuration, Timestamp};
//! use uuid::Uuid;
//!
//! let urls = Urls::new(Signer::new([7; 32]), Some(Duration::from_secs(3600)), None);
//!
//! // Whoever has this URL may read the file for a minute.
//! let key = Key::result(Uuid::now_v7(), 1, "png");
//! let minute = Timestamp::now() + SignedDuration::from_secs(60);
//! let url = urls.of("https://enlarger.example", &key, Right::Read, minute);
//! assert_eq!(urls.recognise(&url), Some(Ok(key)));
//! assert_eq!(urls.recognise(&url.replace("result-1", "result-2")), None);
//! ```

mod abilities;
mod apart;
pub mod deletions;
pub mod error;
pub mod failure;
pub mod favorites;
pub mod files;
pub mod follow;
pub mod intake;
pub mod job;
pub mod metrics;
pub mod nodes;
pub mod outbox;
pub mod polls;
pub mod presets;
pub mod random;
pub mod reads;
pub mod relay;
pub mod saver;
pub mod signed;
pub mod submit;
pub mod sweeper;
#[cfg(test)]
mod testing;
pub mod traces;
pub mod urls;
mod wakes;
mod watching;
pub mod worker;

pub use apart::{COMMAND as APART_COMMAND, run as run_apart};
pub use error::Error;
