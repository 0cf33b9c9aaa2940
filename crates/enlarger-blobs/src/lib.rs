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
//! * [`open_blobs`] opens the store that a URL names. [`folder`] is the one that needs nothing but a disk;
//!   `tests/conformance` is what each must pass.
//!
//! No path of a blob leaves its store, so a store may as well be on another machine. Paths of drafts do: they are local by
//! definition, and another process may have to write to them.

pub mod folder;
mod key;
mod open;
mod scratch;
mod store;

pub use key::Key;
pub use open::open_blobs;
pub use scratch::{Cramped, Draft, LOOK_FOR_ROOM, Scratch, map_draft, map_nameless, no_room};
pub use store::{BlobStore, ByteStream, Opened, Right, TaskBlobs, Usage};
