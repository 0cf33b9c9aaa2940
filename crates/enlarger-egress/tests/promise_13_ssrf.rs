//! Promise 13: whatever an address is dressed up as, nothing but public hosts is spoken to, for picture fetch and webhook.

mod common;

use std::sync::Arc;

use common::{Flipping, Receiver, Reply, policy};
use enlarger_egress::{Delivered, EgressError, Fetcher, Webhooks};

const LIMIT: u64 = 1 << 20;
/// Unix seconds of no importance.
const NOW: i64 = 1_700_000_000;

/// Hosts that lead, or could lead, into a private network.
const PRIVATE_HOSTS: [&str; 48] = [
    // loopback, in every spelling that an HTTP client understands
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "0.1.2.3",
    "[::1]",
    "[::]",
    "%31%32%37.0.0.1",
    "①②⑦.⓪.⓪.①",
    // IPv4 inside IPv6
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[fe80::5efe:10.0.0.1]",
    "[2600::5efe:127.0.0.1]",
    "[2600::200:5efe:7f00:1]",
    // private, shared, link-local, metadata
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "192.0.0.192",
    "168.63.129.16",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[fe80::1]",
    // multicast, broadcast, benchmarks
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
];

fn fetcher(opened: &[&str], resolver: &Flipping) -> Fetcher {
    Fetcher::with_resolver(policy(opened), Arc::new(resolver.clone()))
}

async fn fetch(fetcher: &Fetcher, url: &str) -> Result<Vec<u8>, EgressError> {
    let mut sink = Vec::new();
    fetcher.fetch(url, LIMIT, &mut sink).await.map(|_| sink)
}

async fn deliver(opened: &[&str], resolver: &Flipping, url: &str) -> Delivered {
    let webhooks = Webhooks::with_resolver(policy(opened), Vec::new(), Arc::new(resolver.clone()));
    webhooks.deliver(url, "id", NOW, b"{}").await
}

#[tokio::test]
async fn promise_13_private_hosts_are_refused_in_every_spelling() {
    let nothing = Flipping::new(&[&[]]);
    let fetcher = fetcher(&[], &nothing);
    for host in PRIVATE_HOSTS {
        for url in [format!("http://{host}:1/x.png"), format!("https://{host}/x.png")] {
            let error = fetch(&fetcher, &url).await.expect_err(&url);
            assert!(
                matches!(error, EgressError::NotPublic | EgressError::Url | EgressError::UserInfo),
                "{url}: {error}"
            );
            let delivered = deliver(&[], &nothing, &url).await;
            assert!(matches!(delivered, Delivered::Retry { .. } | Delivered::Stop { .. }), "{url}: {delivered:?}");
        }
    }
    assert!(nothing.asked.lock().unwrap().is_empty(), "literal hosts are judged without asking anybody");
}

#[tokio::test]
async fn promise_13_names_are_judged_by_all_their_records() {
    let private: &[&[&str]] = &[
        &["127.0.0.1"],
        &["10.1.2.3"],
        &["::1"],
        &["fd00::1"],
        &["169.254.169.254"],
        // one private record among public ones
        &["93.184.215.14", "192.168.0.1"],
        &["2606:2800:220:1:248:1893:25c8:1946", "::ffff:10.0.0.1"],
        &[],
    ];
    for records in private {
        let resolver = Flipping::new(&[records]);
        let error = fetch(&fetcher(&[], &resolver), "http://pictures.example/x.png").await.expect_err("refused");
        assert_eq!(error, EgressError::NotPublic, "{records:?}");
        let delivered = deliver(&[], &resolver, "http://pictures.example/hook").await;
        assert!(matches!(delivered, Delivered::Retry { .. } | Delivered::Stop { .. }), "{records:?}");
    }
}

#[tokio::test]
async fn promise_13_other_schemes_and_passwords_are_refused() {
    let nothing = Flipping::new(&[&["93.184.215.14"]]);
    let fetcher = fetcher(&[], &nothing);
    for url in [
        "file:///etc/passwd",
        "ftp://example.com/x.png",
        "gopher://example.com/",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "unix:/run/x.sock",
        "http://user@example.com/x.png",
        "http://user:password@example.com/x.png",
        "http://example.com:80@127.0.0.1/x.png",
        "//example.com/x.png",
        "http://",
        "",
    ] {
        let error = fetch(&fetcher, url).await.expect_err(url);
        assert!(matches!(error, EgressError::Url | EgressError::UserInfo), "{url}: {error}");
        assert!(matches!(deliver(&[], &nothing, url).await, Delivered::Retry { .. } | Delivered::Stop { .. }), "{url}");
    }
    assert!(nothing.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn promise_13_the_connection_goes_to_the_checked_address_even_if_the_name_flips() {
    // Only 127.0.0.2 is open. The name says so once, and 127.0.0.1 ever after.
    let mut inner = Receiver::new("127.0.0.1", vec![Reply::ok(b"secret")]).await;
    let port = inner.address.port();
    let outer = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.expect("the same port on the other address");
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = outer.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        let again =
            format!("HTTP/1.1 302 Found\r\nlocation: http://flip.example:{port}/2\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(again.as_bytes()).await.unwrap();
    });
    let flipping = Flipping::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let fetcher = fetcher(&["127.0.0.2/32"], &flipping);
    let error = fetch(&fetcher, &format!("http://flip.example:{port}/1")).await.expect_err("the second hop is refused");
    assert_eq!(error, EgressError::NotPublic);
    server.await.unwrap();
    assert_eq!(flipping.asked.lock().unwrap().len(), 2, "asked once for each hop, and not again for the connection");
    assert_eq!(inner.heard(), None, "the inner server was never spoken to");
}

#[tokio::test]
async fn promise_13_redirects_are_checked_one_by_one_and_counted() {
    let nothing = Flipping::new(&[&[]]);
    for inside in
        ["http://10.0.0.1/", "http://[::1]/", "http://0x7f000001/", "file:///etc/passwd", "http://a:b@127.0.0.2/"]
    {
        let server = Receiver::new("127.0.0.2", vec![Reply::redirect(inside)]).await;
        let error = fetch(&fetcher(&["127.0.0.2/32"], &nothing), &server.url("/")).await.expect_err(inside);
        assert!(
            matches!(error, EgressError::NotPublic | EgressError::Url | EgressError::UserInfo),
            "{inside}: {error}"
        );
    }

    let three = vec![Reply::redirect("/1"), Reply::redirect("/2"), Reply::redirect("/3"), Reply::ok(b"picture")];
    let server = Receiver::new("127.0.0.2", three).await;
    assert_eq!(fetch(&fetcher(&["127.0.0.2/32"], &nothing), &server.url("/0")).await, Ok(b"picture".to_vec()));

    let mut endless = Receiver::new("127.0.0.2", vec![Reply::redirect("/")]).await;
    let error = fetch(&fetcher(&["127.0.0.2/32"], &nothing), &endless.url("/")).await.expect_err("a loop");
    assert_eq!(error, EgressError::Redirects(3));
    assert_eq!(std::iter::from_fn(|| endless.heard()).count(), 4, "the first request and three redirects");
}

#[tokio::test]
async fn promise_13_the_error_says_the_same_whatever_is_behind() {
    // A name that does not resolve, one that leads inside, an inner host that listens, an inner host that does not.
    let listening = Receiver::new("127.0.0.1", vec![Reply::ok(b"x")]).await;
    let nothing = Flipping::new(&[&[]]);
    let unknown = fetch(&fetcher(&[], &nothing), "http://nowhere.example/").await;
    let private = fetch(&fetcher(&[], &Flipping::new(&[&["10.0.0.9"]])), "http://db.internal/").await;
    let there = fetch(&fetcher(&[], &nothing), &listening.url("/")).await;
    let not_there = fetch(&fetcher(&[], &nothing), "http://127.0.0.3:1/").await;
    let errors = [unknown, private, there, not_there].map(|result| result.expect_err("refused").to_string());
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    assert!(!errors[0].contains("10.") && !errors[0].contains("127.") && !errors[0].contains("internal"), "{errors:?}");
}
