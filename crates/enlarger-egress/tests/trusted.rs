//! A service that the operator named: why it gave no answer is told apart, and never where it is.

use std::time::Duration;

use enlarger_egress::{TrustedService, Unanswered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A listener that answers whatever is sent with these bytes.
async fn answering(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    port
}

async fn asked(address: &str) -> Result<u16, Unanswered> {
    let service = TrustedService::new(address, &[], Duration::from_secs(10)).unwrap();
    Ok(service.get(&["object_info"], &[], 1024).await?.status)
}

#[tokio::test]
async fn why_a_service_gives_no_answer_is_told_apart() {
    let plain = answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let (silent, long) = (answering(b"").await, answering(&[b'x'; 9000]).await);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(asked(&format!("http://127.0.0.1:{plain}")).await, Ok(400));
    assert_eq!(asked(&format!("http://127.0.0.1:{closed}")).await, Err(Unanswered::Refused));
    assert_eq!(asked("http://nowhere.invalid:80").await, Err(Unanswered::Name));
    assert_eq!(asked(&format!("http://127.0.0.1:{silent}")).await, Err(Unanswered::Connection));
    assert_eq!(asked(&format!("http://127.0.0.1:{long}")).await, Err(Unanswered::Protocol));
    for port in [plain, silent, long] {
        let why = asked(&format!("https://127.0.0.1:{port}")).await.unwrap_err();
        assert!(matches!(why, Unanswered::Tls(_)), "{why:?}");
        assert!(!why.to_string().contains("127.0.0.1"), "{why}");
    }
}
