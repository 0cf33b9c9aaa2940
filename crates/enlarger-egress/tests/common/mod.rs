//! A receiver that answers with canned bytes, and a resolver whose answers flip.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use enlarger_egress::{Policy, Resolve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// What a receiver does with a connection once the request has been read.
#[derive(Clone)]
pub enum Reply {
    Bytes(Vec<u8>),
    /// Says nothing and keeps the line open.
    Hang,
    /// Sends zeros until the other side hangs up, under this head.
    Flood(&'static str),
}

impl Reply {
    pub fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    pub fn status(line: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes())
    }

    pub fn redirect(to: &str) -> Self {
        Self::status(&format!("302 Found\r\nlocation: {to}"))
    }

    pub fn ok(body: &[u8]) -> Self {
        Self::with("", body)
    }

    /// A body under some more header lines, each ended by a line break.
    pub fn with(headers: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
        Self::Bytes([head.as_bytes(), body].concat())
    }
}

/// A receiver on a loopback address of its own.
pub struct Receiver {
    pub address: SocketAddr,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Receiver {
    /// Answers the first connection with the first reply, and so on; the last one is repeated.
    pub async fn new(ip: &str, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.expect("loopback can be bound");
        let address = listener.local_addr().expect("it is bound");
        let (heard, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut replies: VecDeque<Reply> = replies.into();
            while let Ok((stream, _)) = listener.accept().await {
                let reply = if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() };
                tokio::spawn(answer(stream, reply.expect("there is a last reply"), heard.clone()));
            }
        });
        Self { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request as text, if one has come.
    pub fn heard(&mut self) -> Option<String> {
        self.requests.try_recv().ok()
    }
}

async fn answer(mut stream: TcpStream, reply: Reply, heard: mpsc::UnboundedSender<String>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok(n @ 1..) = stream.read(&mut buffer).await else { return };
        request.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&request);
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let length = text
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .map_or(0, |length| length.parse().expect("a client sends a number"));
        if request.len() >= end + 4 + length {
            break;
        }
    }
    let _ = heard.send(String::from_utf8_lossy(&request).into_owned());
    match reply {
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
        }
        Reply::Hang => std::future::pending().await,
        Reply::Flood(head) => {
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&[0; 65536]).await.is_ok() {}
        }
    }
}

/// Gives the first answer, then the second, and so on; the last one is repeated. Counts the questions.
#[derive(Debug, Clone)]
pub struct Flipping {
    answers: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Flipping {
    pub fn new(answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().expect("an address")).collect();
        Self { answers: Arc::new(Mutex::new(answers.iter().map(parse).collect())), asked: Arc::default() }
    }
}

#[async_trait::async_trait]
impl Resolve for Flipping {
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.lock().expect("no panic under it").push(host.to_owned());
        let mut answers = self.answers.lock().expect("no panic under it");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Ok(answer.unwrap_or_default())
    }
}

/// Public addresses, and these ranges.
pub fn policy(opened: &[&str]) -> Policy {
    Policy { allow: opened.iter().map(|net| net.parse().expect("a range")).collect() }
}
