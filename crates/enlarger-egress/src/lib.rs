//! All outgoing traffic.
//!
//! Clients give URLs of images to fetch and receivers to call. None of them may lead into the network of this machine.
//! [`Policy`] says which addresses are public; [`Fetcher`] and [`Webhooks`] reach only those: each hop's name is
//! resolved here, each of its records is checked, and the connection is pinned to a checked address.
//!
//! ```
//! use enlarger_egress::{EgressError, Fetcher, Policy};
//! # use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpListener};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("http://{}/photo.png", listener.local_addr()?);
//! # tokio::spawn(async move {
//! #     while let Ok((mut stream, _)) = listener.accept().await {
//! #         let _ = stream.read(&mut [0; 1024]).await;
//! #         let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture").await;
//! #     }
//! # });
//! // `url` leads to this machine, which is not public.
//! let mut bytes = Vec::new();
//! let refused = Fetcher::new(Policy::default()).fetch(&url, 1 << 20, &mut bytes).await;
//! assert!(matches!(refused, Err(EgressError::NotPublic)));
//!
//! // Unless it was opened on purpose.
//! let policy = Policy { allow: vec!["127.0.0.0/8".parse()?] };
//! let fetched = Fetcher::new(policy).fetch(&url, 1 << 20, &mut bytes).await?;
//! assert_eq!((fetched.bytes, bytes.as_slice()), (7, &b"picture"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! [`Webhooks`] deliver and sign as the Standard Webhooks specification has it; [`next_try`] is the schedule, and whoever
//! keeps the queue of deliveries calls them. [`TrustedService`] is the exception: one service at an address that the operator sets. `policy` has the tables of what is not public, with their registries.

mod body;
mod client;
mod error;
mod fetch;
mod policy;
mod resolve;
mod trusted;
mod webhook;

pub use error::EgressError;
pub use fetch::{Fetched, Fetcher};
pub use policy::{Policy, check_url};
pub use resolve::{Resolve, SystemResolver};
pub use trusted::{Answer, TrustedService, Unanswered};
pub use webhook::{Delivered, Secret, TRIES, Webhooks, next_try, signature};
