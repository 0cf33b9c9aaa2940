//! Fetching a picture from a URL given by a client.

use std::{sync::Arc, time::Duration};

use reqwest::{Response, Url, header};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use crate::{
    body,
    client::pinned,
    error::EgressError,
    policy::{Policy, checked},
    resolve::{Resolve, SystemResolver},
};

/// Redirects that are followed; each is checked like the first URL.
const REDIRECTS: usize = 3;
/// Seconds in total for resolving, connecting, redirects and the body.
const TOTAL_SECONDS: u64 = 60;
/// Bytes written at once.
const BUFFER: usize = 64 << 10;

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes written.
    pub bytes: u64,
}

/// Fetches from public hosts.
#[derive(Clone)]
pub struct Fetcher {
    policy: Policy,
    resolver: Arc<dyn Resolve>,
}

impl Fetcher {
    /// A fetcher that resolves as the system does.
    pub fn new(policy: Policy) -> Self {
        Self::with_resolver(policy, Arc::new(SystemResolver))
    }

    /// A fetcher with another resolver.
    pub fn with_resolver(policy: Policy, resolver: Arc<dyn Resolve>) -> Self {
        Self { policy, resolver }
    }

    /// Streams what lies at `url` into `to`, at most `limit` bytes, without the compression of its transfer. On an
    /// error, the caller deletes what was written.
    ///
    /// # Errors
    /// [`EgressError`]; its text leaks nothing about the network behind this machine.
    pub async fn fetch(
        &self,
        url: &str,
        limit: u64,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Fetched, EgressError> {
        let deadline = Instant::now() + Duration::from_secs(TOTAL_SECONDS);
        let late = |_| EgressError::Timeout(TOTAL_SECONDS);
        timeout_at(deadline, async {
            let response = self.response(checked(url, &self.policy)?, deadline).await?;
            // A declared size above the limit saves the transfer; one below it proves nothing.
            if response.content_length().is_some_and(|claimed| claimed > limit) {
                return Err(EgressError::TooLarge(limit));
            }
            let mut body = body::decoded(response, limit, failed).await?;
            let mut buffer = vec![0; BUFFER];
            let mut bytes = 0u64;
            loop {
                let read = body.read(&mut buffer).await.map_err(body::cause)?;
                if read == 0 {
                    break;
                }
                bytes += read as u64;
                if bytes > limit {
                    return Err(EgressError::TooLarge(limit));
                }
                to.write_all(&buffer[..read]).await.map_err(|e| EgressError::Store(e.kind().to_string()))?;
            }
            to.flush().await.map_err(|e| EgressError::Store(e.kind().to_string()))?;
            Ok(Fetched { bytes })
        })
        .await
        .map_err(late)?
    }

    /// The first response that is not a redirect.
    async fn response(&self, mut url: Url, deadline: Instant) -> Result<Response, EgressError> {
        for _ in 0..=REDIRECTS {
            let left = deadline.saturating_duration_since(Instant::now());
            let client = pinned(&url, &self.policy, &*self.resolver, left).await?;
            let request = client.get(url.clone()).header(header::ACCEPT, "image/*, */*;q=0.1");
            let response = request.send().await.map_err(|e| failed(&e))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            match location(&response) {
                Some(location) if status.is_redirection() => {
                    let next = url.join(&location).map_err(|_| EgressError::Url)?;
                    url = checked(next.as_str(), &self.policy)?;
                }
                _ => return Err(EgressError::Status(status.as_u16())),
            }
        }
        Err(EgressError::Redirects(REDIRECTS))
    }
}

/// Where a redirect leads. Hosts send non-ASCII letters as they are; in a URL they are escaped (RFC 3986, section 2.1).
fn location(response: &Response) -> Option<String> {
    let escaped = |byte: &u8| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    Some(response.headers().get(header::LOCATION)?.as_bytes().iter().map(escaped).collect())
}

fn failed(error: &reqwest::Error) -> EgressError {
    if error.is_timeout() { EgressError::Timeout(TOTAL_SECONDS) } else { EgressError::Connection }
}
