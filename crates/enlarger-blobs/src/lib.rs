//! Files under keys: uploads, sources and results.
//!
//! ```text
//!   Scratch ── draft ──▶ write, write, … ── publish(draft, key) ──▶ BlobStore
//!   (a local disk)                                                   │  open: stream it, for a download
//!                                                                    │  map: all of it, for a decoder
//!                                                                    └─ copy, size, list, delete
//! ```
//!
//! * A [`Key`] says what a blob is: the source of a task, an attempt's result, an upload.
//! * A [`Draft`] is a file that is being written, in this process's [`Scratch`] folder. No other process reads it, and dropping it deletes it.
//! * A [`BlobStore`] keeps what is published. A blob appears under its key only when it is whole and durable, and never changes
//!   afterwards: publishing again replaces it, and whoever has it open reads on in the old one.
//! * [`open_blobs`] opens the store that a URL names. [`folder`] is the one that needs nothing but a disk, `object` a
//!   bucket of a server; `tests/conformance` is what each must pass.
//!
//! No path of a blob leaves its store, so a store may as well be on another machine. Paths of drafts do: they are local by
//! definition, and another process may have to write to them.
//!
//! ```
//! use std::io::Write;
//!
//! use enlarger_blobs::{Key, Scratch, folder, open_blobs};
//! use uuid::Uuid;
//!
//! # #[tokio::main]
//! # async fn main() -> std::io::Result<()> {
//! # let root = tempfile::tempdir()?;
//! let scratch = Scratch::open(&root.path().join("tmp"))?;
//! let blobs = open_blobs(&folder::url_of(root.path())?, &scratch).await?;
//!
//! let mut draft = scratch.draft()?;
//! draft.write_all(b"the bytes of a picture")?;
//! let key = Key::Source(Uuid::now_v7());
//! assert!(!blobs.exists(&key).await?);
//! blobs.publish(draft, &key).await?;
//!
//! assert_eq!(&blobs.map(&key).await?[..], b"the bytes of a picture");
//! assert_eq!(Key::parse(&key.to_string()), Some(key));
//! # Ok(())
//! # }
//! ```

pub mod folder;
mod key;
mod object;
mod open;
mod scratch;
mod store;

pub use key::Key;
pub use open::open_blobs;
pub use scratch::{Cramped, Draft, LOOK_FOR_ROOM, Scratch, map_draft, map_nameless, no_room};
pub use store::{BlobStore, ByteStream, Opened, Right, TaskBlobs, Usage, is_transient};
