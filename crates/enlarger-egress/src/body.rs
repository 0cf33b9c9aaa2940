//! Bodies as files: object stores return files as stored, even compressed, to clients that never asked for compression.

use std::io;

use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder};
use futures_util::StreamExt;
use reqwest::{Response, header};
use tokio::io::{AsyncBufReadExt, AsyncRead};
use tokio_util::io::StreamReader;

use crate::error::EgressError;

/// Codings that change nothing, or that a store has kept from the upload's own transfer.
const NONE: [&str; 3] = ["", "identity", "aws-chunked"];
const GZIP: [&str; 2] = ["gzip", "x-gzip"];
const ZLIB: [&str; 1] = ["deflate"];
const UNREAD: [&str; 3] = ["br", "zstd", "compress"];

/// Reads a body without its `Content-Encoding` (RFC 9110, section 8.4). At most `limit` bytes are taken from the
/// network; the caller limits how many come out. [`cause`] recovers errors of reading.
pub(crate) async fn decoded(
    response: Response,
    limit: u64,
    failed: fn(&reqwest::Error) -> EgressError,
) -> Result<Box<dyn AsyncRead + Send + Unpin>, EgressError> {
    let codings = codings(&response);
    if codings.iter().any(|coding| UNREAD.contains(&coding.as_str())) || codings.len() > 1 {
        return Err(EgressError::Encoding);
    }
    let mut received = 0;
    let pieces = response.bytes_stream().map(move |piece| {
        let piece = piece.map_err(|error| io::Error::other(failed(&error)))?;
        received += piece.len() as u64;
        if received > limit { Err(io::Error::other(EgressError::TooLarge(limit))) } else { Ok(piece) }
    });
    let mut body = StreamReader::new(pieces);
    let first = body.fill_buf().await.map_err(cause)?.first().copied().unwrap_or_default();
    // Stores declare plain files as compressed, too. No image begins like gzip (RFC 1952) or zlib (RFC 1950).
    let is = |names: &[&str]| codings.iter().any(|coding| names.contains(&coding.as_str()));
    if is(&GZIP) && first == 0x1f {
        let mut decoder = GzipDecoder::new(body);
        decoder.multiple_members(true);
        Ok(Box::new(decoder))
    } else if is(&ZLIB) && first & 0x0f == 8 {
        Ok(Box::new(ZlibDecoder::new(body)))
    } else {
        Ok(Box::new(body))
    }
}

/// The codings that matter, in lower case.
fn codings(response: &Response) -> Vec<String> {
    let values = response.headers().get_all(header::CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !NONE.contains(&name.as_str())).collect()
}

/// Why reading failed. What did not come from the network came from the decoder.
pub(crate) fn cause(error: io::Error) -> EgressError {
    let inner = error.into_inner().and_then(|inner| inner.downcast::<EgressError>().ok());
    inner.map_or(EgressError::Encoding, |inner| *inner)
}
