//! What object stores and web servers do to files and addresses on the way.

mod common;

use std::{io::Write, sync::Arc};

use common::{Flipping, Receiver, Reply, policy};
use enlarger_egress::{EgressError, Fetcher};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

/// Not text, and nothing that begins like compressed data.
const FILE: &[u8] = b"\x89PNG\r\n\x1a\n\x00\xff and more";

async fn fetch_at(server: &Receiver, path: &str, limit: u64) -> Result<Vec<u8>, EgressError> {
    let mut sink = Vec::new();
    let fetcher = Fetcher::with_resolver(policy(&["127.0.0.0/8"]), Arc::new(Flipping::new(&[&[]])));
    let fetched = fetcher.fetch(&server.url(path), limit, &mut sink).await?;
    assert_eq!(fetched.bytes, sink.len() as u64);
    Ok(sink)
}

async fn fetch(reply: Reply, limit: u64) -> Result<Vec<u8>, EgressError> {
    fetch_at(&Receiver::new("127.0.0.3", vec![reply]).await, "/x.png", limit).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn encoded(coding: &str, body: &[u8]) -> Reply {
    Reply::with(&format!("content-encoding: {coding}\r\n"), body)
}

#[tokio::test]
async fn a_file_that_a_store_keeps_compressed_arrives_as_it_was() {
    for coding in ["gzip", "x-gzip", "GZIP", "aws-chunked, gzip", "gzip,"] {
        assert_eq!(fetch(encoded(coding, &gzip(FILE)), 1000).await.as_deref(), Ok(FILE), "{coding}");
    }
    assert_eq!(fetch(encoded("deflate", &zlib(FILE)), 1000).await.as_deref(), Ok(FILE));
    // gzip in pieces, as programs that append write it.
    let pieces = [gzip(&FILE[..5]), gzip(&FILE[5..])].concat();
    assert_eq!(fetch(encoded("gzip", &pieces), 1000).await.as_deref(), Ok(FILE));
    // A store that only says so.
    for coding in ["gzip", "deflate", "identity", "aws-chunked", "utf-8"] {
        assert_eq!(fetch(encoded(coding, FILE), 1000).await.as_deref(), Ok(FILE), "{coding}");
    }
    // A file that is compressed by itself is not touched.
    assert_eq!(fetch(Reply::ok(&gzip(FILE)), 1000).await, Ok(gzip(FILE)));
}

#[tokio::test]
async fn promise_12_compressed_bombs_and_damage_end_at_the_limit() {
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(fetch(encoded("gzip", &bomb), 1 << 20).await, Err(EgressError::TooLarge(1 << 20)));
    assert_eq!(
        fetch(encoded("deflate", &zlib(&vec![0; 64 << 20])), 1 << 20).await,
        Err(EgressError::TooLarge(1 << 20))
    );
    // Nothing comes out of empty pieces, however many are sent.
    let empty = gzip(b"").repeat(1000);
    let length = format!("{:x}\r\n", empty.len());
    let chunked = [
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            .as_slice(),
        length.as_bytes(),
        &empty,
        b"\r\n0\r\n\r\n",
    ];
    assert_eq!(fetch(Reply::Bytes(chunked.concat()), 1000).await, Err(EgressError::TooLarge(1000)));
    let whole = gzip(FILE);
    let mut damaged = whole.clone();
    damaged[12] ^= 0xff;
    for body in [&whole[..whole.len() - 9], &damaged] {
        assert_eq!(fetch(encoded("gzip", body), 1000).await, Err(EgressError::Encoding));
    }
    for coding in ["br", "zstd", "gzip, gzip"] {
        assert_eq!(fetch(encoded(coding, &whole), 1000).await, Err(EgressError::Encoding), "{coding}");
    }
}

#[tokio::test]
async fn a_redirect_to_an_address_with_letters_beyond_ascii_is_followed() {
    let utf8 = "/größe/写真.png?q=ü".as_bytes();
    let latin1 = b"/gr\xf6\xdfe.png";
    for (location, asked) in [
        (utf8, "/gr%C3%B6%C3%9Fe/%E5%86%99%E7%9C%9F.png?q=%C3%BC"),
        (latin1.as_slice(), "/gr%F6%DFe.png"),
        (b"/a%20b c.png", "/a%20b%20c.png"),
    ] {
        let redirect = [b"HTTP/1.1 302 Found\r\nlocation: ".as_slice(), location, b"\r\ncontent-length: 0\r\n\r\n"];
        let mut server = Receiver::new("127.0.0.3", vec![Reply::Bytes(redirect.concat()), Reply::ok(FILE)]).await;
        assert_eq!(fetch_at(&server, "/", 1000).await.as_deref(), Ok(FILE));
        assert!(server.heard().expect("the first").starts_with("GET / "));
        let second = server.heard().expect("the second");
        assert!(second.starts_with(&format!("GET {asked} ")), "{second}");
    }
}
