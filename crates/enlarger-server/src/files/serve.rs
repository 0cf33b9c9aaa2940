//! A blob as the response to GET or HEAD: whole or a range (RFC 9110, section 14), or not modified (section 13).

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use enlarger_blobs::Opened;
use httpdate::HttpDate;

use super::range;

/// Answers a request for this blob.
pub(super) fn serve(method: &Method, asked: &HeaderMap, blob: Opened) -> Response {
    let modified = blob.modified.map(HttpDate::from);
    if let Some(since) = date(asked, header::IF_UNMODIFIED_SINCE)
        && modified.is_none_or(|modified| modified > since)
    {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    if let Some(since) = date(asked, header::IF_MODIFIED_SINCE)
        && modified.is_some_and(|modified| modified <= since)
    {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let size = blob.bytes;
    let range = asked.get(header::RANGE).and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| range::understood(range, size));
    let part = match range.map(|range| part(&range, size)) {
        None => None,
        Some(Some(part)) => Some(part),
        Some(None) => {
            let length = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return described((StatusCode::RANGE_NOT_SATISFIABLE, length).into_response(), modified);
        }
    };
    let (first, end) = part.unwrap_or((0, size));
    let body = if method == Method::HEAD { Body::empty() } else { Body::from_stream(blob.stream(first..end)) };
    let mut response = described(body.into_response(), modified);
    response.headers_mut().insert(header::CONTENT_LENGTH, (end - first).into());
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{}/{size}", end - 1));
    }
    response
}

/// The first byte of a part and the byte after its last; `None` if the blob has no such part.
fn part(range: &str, size: u64) -> Option<(u64, u64)> {
    let ranges = http_range_header::parse_range_header(range).ok()?.validate(size).ok()?;
    ranges.first().map(|range| (*range.start(), range.end() + 1))
}

fn described(mut response: Response, modified: Option<HttpDate>) -> Response {
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(modified) = modified {
        set(&mut response, header::LAST_MODIFIED, &modified.to_string());
    }
    response
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A date that a client sends; an invalid one counts as absent.
fn date(asked: &HeaderMap, name: HeaderName) -> Option<HttpDate> {
    asked.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use enlarger_blobs::ByteStream;
    use http_body_util::BodyExt;

    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    /// The answer for ten bytes of 1994: its status, its body, and these headers.
    async fn answer(method: Method, asked: &[(HeaderName, &str)]) -> (u16, String, HeaderMap) {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let blob = Opened::new(10, Some(modified), |range| -> ByteStream {
            let bytes = bytes::Bytes::from_static(b"0123456789").slice(range.start as usize..range.end as usize);
            Box::pin(futures_util::stream::iter([Ok(bytes)]))
        });
        let asked = asked.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        let (parts, body) = serve(&method, &asked, blob).into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), String::from_utf8(bytes.to_vec()).unwrap(), parts.headers)
    }

    #[tokio::test]
    async fn a_whole_file_says_its_size_and_date() {
        for (method, expected) in [(Method::GET, "0123456789"), (Method::HEAD, "")] {
            let (status, body, headers) = answer(method, &[]).await;
            assert_eq!((status, body.as_str()), (200, expected));
            assert_eq!(headers[header::CONTENT_LENGTH], "10");
            assert_eq!(headers[header::LAST_MODIFIED], DATE);
            assert_eq!(headers[header::ACCEPT_RANGES], "bytes");
        }
    }

    #[tokio::test]
    async fn parts_are_those_that_were_asked_for() {
        for (range, status, expected, told) in [
            ("bytes=0-3", 206, "0123", Some("bytes 0-3/10")),
            ("bytes=7-", 206, "789", Some("bytes 7-9/10")),
            ("bytes=-2", 206, "89", Some("bytes 8-9/10")),
            ("bytes=5-99", 206, "56789", Some("bytes 5-9/10")),
            ("bytes=-99", 206, "0123456789", Some("bytes 0-9/10")),
            ("bytes=10-", 416, "", Some("bytes */10")),
            ("bytes=x-", 416, "", Some("bytes */10")),
            ("bytes=0-1,3-4", 200, "0123456789", None),
            ("lines=1-2", 200, "0123456789", None),
        ] {
            let (got, body, headers) = answer(Method::GET, &[(header::RANGE, range)]).await;
            let content_range = headers.get(header::CONTENT_RANGE).map(|value| value.to_str().unwrap());
            assert_eq!((got, body.as_str(), content_range), (status, expected, told), "{range}");
        }
    }

    #[tokio::test]
    async fn what_a_client_has_is_not_sent_again() {
        const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
        const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (name, date, expected) in [
            (header::IF_MODIFIED_SINCE, DATE, 304),
            (header::IF_MODIFIED_SINCE, LATER, 304),
            (header::IF_MODIFIED_SINCE, EARLIER, 200),
            (header::IF_MODIFIED_SINCE, "yesterday", 200),
            (header::IF_UNMODIFIED_SINCE, DATE, 200),
            (header::IF_UNMODIFIED_SINCE, EARLIER, 412),
        ] {
            assert_eq!(answer(Method::GET, &[(name.clone(), date)]).await.0, expected, "{name}: {date}");
        }
    }
}
