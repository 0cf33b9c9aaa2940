//! Reading bodies: capped, timed, and large ones to disk instead of memory.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{body::Body, http::StatusCode};
use enlarger_blobs::Scratch;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::error::{ApiError, ApiResult};

/// Bodies up to this size stay in memory.
const IN_MEMORY: usize = 256 << 10;
/// A body may take this long, plus what its bytes take at [`SLOWEST`].
const GRACE: Duration = Duration::from_secs(20);
/// Clients slower than this many bytes per second are disconnected: they occupy a place that others could use.
const SLOWEST: u64 = 32 << 10;
/// How long a large body waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Places for large bodies, and where these go. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    places: Arc<Semaphore>,
    pub(super) scratch: Scratch,
}

/// A whole body.
pub(crate) struct Spooled {
    pub(super) bytes: bytes::Bytes,
    /// SHA-256.
    pub hash: [u8; 32],
}

impl Deref for Spooled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body in chunks, taking a place once it turns out to be large.
pub(crate) struct Reader<'a> {
    body: axum::body::BodyDataStream,
    bodies: &'a Bodies,
    started: Instant,
    received: u64,
    limit_mb: u64,
    place: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub fn new(places: usize, scratch: Scratch) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), scratch }
    }

    /// Starts reading a body of at most `limit_mb` MB.
    pub fn reader(&self, body: Body, limit_mb: u64) -> Reader<'_> {
        let body = body.into_data_stream();
        Reader { body, bodies: self, started: Instant::now(), received: 0, limit_mb, place: None }
    }

    /// Reads a whole body; a large one is written to a nameless file.
    ///
    /// # Errors
    /// 413 above the limit, 408 if it arrives too slowly, 503 if too many large bodies are being read.
    pub async fn spool(&self, body: Body, limit_mb: u64) -> ApiResult<Spooled> {
        let mut reader = self.reader(body, limit_mb);
        let mut hash = Sha256::new();
        let mut memory = Vec::new();
        let mut disk: Option<tokio::fs::File> = None;
        while let Some(chunk) = reader.next().await? {
            hash.update(&chunk);
            if let Some(file) = &mut disk {
                file.write_all(&chunk).await?;
            } else {
                memory.extend_from_slice(&chunk);
                if memory.len() > IN_MEMORY {
                    let mut file = tokio::fs::File::from_std(self.scratch.nameless()?);
                    file.write_all(&std::mem::take(&mut memory)).await?;
                    disk = Some(file);
                }
            }
        }
        let bytes = match disk {
            None => memory.into(),
            Some(mut file) => {
                file.flush().await?;
                enlarger_blobs::map_nameless(file.into_std().await)?
            }
        };
        Ok(Spooled { bytes, hash: hash.finalize().into() })
    }
}

impl Reader<'_> {
    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// As [`Bodies::spool`].
    pub async fn next(&mut self) -> ApiResult<Option<bytes::Bytes>> {
        let deadline = self.started + GRACE + Duration::from_secs(self.received / SLOWEST);
        let slow = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body arrived too slowly");
        let Some(chunk) = timeout_at(deadline, self.body.next()).await.map_err(slow)? else { return Ok(None) };
        let chunk = chunk.map_err(|_| ApiError::bad_request("incomplete_body", "the body ended unexpectedly"))?;
        self.received += chunk.len() as u64;
        if self.received > self.limit_mb << 20 {
            return Err(ApiError::too_large(self.limit_mb));
        }
        if self.received > IN_MEMORY as u64 && self.place.is_none() {
            let place = timeout(PATIENCE, self.bodies.places.clone().acquire_owned()).await;
            let busy = |_| ApiError::unavailable("too many large requests are being received");
            self.place = Some(place.map_err(busy)?.map_err(ApiError::internal)?);
        }
        Ok(Some(chunk))
    }
}
