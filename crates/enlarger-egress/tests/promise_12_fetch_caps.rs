//! Promise 12, as far as fetching goes: caps of time and size hold whatever the other side says.

mod common;

use std::sync::Arc;

use common::{Flipping, Receiver, Reply, policy};
use enlarger_egress::{EgressError, Fetcher};

/// The outcome, and how many bytes were written before.
async fn fetch(reply: Reply, limit: u64) -> (Result<u64, EgressError>, usize) {
    let server = Receiver::new("127.0.0.2", vec![reply]).await;
    let mut sink = Vec::new();
    let fetcher = Fetcher::with_resolver(policy(&["127.0.0.0/8"]), Arc::new(Flipping::new(&[&[]])));
    let fetched = fetcher.fetch(&server.url("/x.png"), limit, &mut sink).await;
    (fetched.map(|fetched| fetched.bytes), sink.len())
}

#[tokio::test]
async fn promise_12_size_is_counted_as_it_comes() {
    assert_eq!(fetch(Reply::ok(b"0123456789"), 10).await, (Ok(10), 10));
    assert_eq!(fetch(Reply::ok(b"0123456789a"), 10).await, (Err(EgressError::TooLarge(10)), 0));

    // Without a length, and with one that lies: the flood is cut off at the limit.
    for head in
        ["HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"]
    {
        let (result, stored) = fetch(Reply::Flood(head), 1 << 20).await;
        assert_eq!(result, Err(EgressError::TooLarge(1 << 20)), "{head}");
        assert!(stored <= 1 << 20);
    }
    // A length below what comes: the rest is not read.
    let (result, stored) = fetch(Reply::Flood("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"), 10).await;
    assert_eq!((result, stored), (Ok(5), 5));
}

#[tokio::test]
async fn promise_12_what_is_no_picture_is_an_error() {
    assert_eq!(fetch(Reply::status("404 Not Found"), 10).await.0, Err(EgressError::Status(404)));
    assert_eq!(fetch(Reply::status("500 Oops"), 10).await.0, Err(EgressError::Status(500)));
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nAAAA";
    assert_eq!(fetch(Reply::text(cut), 10).await.0, Err(EgressError::Connection));
}
