//! moto, a server that speaks S3's protocol: another implementation in another language. It checks no signatures.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, Command, Stdio},
};

/// The bucket that the server has.
pub const BUCKET: &str = "pictures";
/// What clients sign with.
pub const KEY: (&str, &str) = ("enlarger-tests", "a secret of the tests");

/// Serves until its input ends, however that happens.
const SCRIPT: &str = "import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
";

/// A running server with one empty bucket. It ends when this is dropped.
pub struct Moto {
    child: Child,
    _input: ChildStdin,
    pub port: u16,
}

impl Moto {
    pub fn start() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is on the PATH");
        let input = child.stdin.take().expect("it is piped");
        let mut said = String::new();
        let read = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut said);
        let port = read.ok().and_then(|_| said.trim().parse().ok());
        let port = port.expect("moto starts; `make test-setup` installs it, and .venv/bin must be on the PATH");
        let server = Self { child, _input: input, port };
        server.ask("PUT", &format!("/{BUCKET}"));
        server
    }

    /// The URL of the bucket.
    pub fn storage(&self) -> String {
        format!("s3://{BUCKET}/some/where?endpoint=http://127.0.0.1:{}", self.port)
    }

    /// Sends a request without a body, unsigned; returns the answer with its headers.
    pub fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let host = format!("127.0.0.1:{}", self.port);
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .expect("it can be sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
