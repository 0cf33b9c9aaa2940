//! Standard input and output as a transport of the protocol: one message a line.
//!
//! The library's own transport skips what it cannot read, and its client waits for ever. This one answers.

use std::io::{self, BufRead, BufReader, Read};

use rmcp::{
    ErrorData, RoleServer,
    model::{ClientJsonRpcMessage, RequestId, ServerJsonRpcMessage},
    transport::{Transport, async_rw::AsyncRwTransport},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{Empty, Stdout},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// The longest message in bytes. An image may be in it, in base64; larger ones are read from files.
const LONGEST: usize = 256 << 20;

/// What a line holds: a message, or why there is none and which request is answered with that.
type Line = Result<ClientJsonRpcMessage, (ErrorData, Option<RequestId>)>;

/// Messages from standard input and to standard output.
pub struct Lines {
    lines: mpsc::Receiver<Line>,
    output: AsyncRwTransport<RoleServer, Empty, Stdout>,
}

impl Lines {
    /// Begins to read, on a thread of its own: nothing can end the wait for standard input, and the program must not wait for it. At its
    /// end the assistant is `gone`: the library would wait for answers to what still runs.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn listen(gone: CancellationToken) -> io::Result<Self> {
        let (sender, lines) = mpsc::channel(1);
        let read = move || {
            let mut input = io::stdin().lock();
            while let Some(line) = next(&mut input, LONGEST) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
            gone.cancel();
        };
        std::thread::Builder::new().name("stdin".into()).spawn(read)?;
        Ok(Self { lines, output: AsyncRwTransport::new_server(tokio::io::empty(), tokio::io::stdout()) })
    }
}

impl Transport<RoleServer> for Lines {
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.output.send(message)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            match self.lines.recv().await? {
                Ok(message) => return Some(message),
                // On its own: whoever receives may turn to something else at any moment.
                Err((error, id)) => drop(tokio::spawn(self.output.send(ServerJsonRpcMessage::error(error, id)))),
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.output.close().await
    }
}

/// What is told apart of any message.
#[derive(Deserialize)]
struct Head {
    id: Option<RequestId>,
}

/// The next line that has something in it; none at the end. Of one that is longer than `longest` only the head is kept.
fn next(input: &mut impl BufRead, longest: usize) -> Option<Line> {
    loop {
        let mut line = Vec::new();
        input.by_ref().take(longest as u64 + 1).read_until(b'\n', &mut line).ok()?;
        if line.len() > longest && !line.ends_with(b"\n") {
            let mut rest = Rest { input: &mut *input, ended: false };
            let head = serde_json::from_reader::<_, Head>(BufReader::new(line.as_slice().chain(&mut rest))).ok();
            io::copy(&mut rest, &mut io::sink()).ok()?;
            let message = format!(
                "the message is longer than {} MB; hint: send an image of this size as a path, not as base64",
                longest >> 20
            );
            return Some(Err((ErrorData::invalid_request(message, None), head.and_then(|head| head.id))));
        }
        // Without its end it is what a client has left unfinished.
        line.pop_if(|last| *last == b'\n')?;
        match line.trim_ascii() {
            [] => {}
            line => {
                if let Some(line) = message(line) {
                    return Some(line);
                }
            }
        }
    }
}

/// What is in a line; none if nobody expects an answer to it and nobody here knows it.
fn message(line: &[u8]) -> Option<Line> {
    if let Ok(message) = serde_json::from_slice(line) {
        return Some(Ok(message));
    }
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => {
            let message = format!("this is not JSON: {error}; hint: send one message a line");
            return Some(Err((ErrorData::parse_error(message, None), None)));
        }
    };
    let id = RequestId::deserialize(&value["id"]).ok();
    if id.is_none() && value["method"].is_string() {
        return None;
    }
    let message = "this is not a message of JSON-RPC 2.0; hint: a request has jsonrpc, id, method and params";
    Some(Err((ErrorData::invalid_request(message, None), id)))
}

/// The rest of a line, with its end.
struct Rest<R> {
    input: R,
    ended: bool,
}

impl<R: BufRead> Read for Rest<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let there = self.input.fill_buf()?;
        let there = &there[..there.len().min(into.len())];
        let length = there.iter().position(|byte| *byte == b'\n').map_or(there.len(), |end| end + 1);
        into[..length].copy_from_slice(&there[..length]);
        self.ended = length == 0 || into[..length].ends_with(b"\n");
        self.input.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_too_long_is_refused_by_its_id_and_the_next_one_is_read() {
        let long = format!(r#"{{"method":"x","params":{{"a":["{}"]}},"jsonrpc":"2.0","id":7}}"#, "A".repeat(5000));
        let broken = format!(r#"{{"id":8,"params":"{}"#, "A".repeat(5000));
        let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
        let all = format!("{long}\n{broken}\n\r\n{ping}\r\n{long}\n{ping}\n{{\"unfinished\":");
        let mut input = io::BufReader::with_capacity(64, all.as_bytes());
        let mut ids = Vec::new();
        while let Some(line) = next(&mut input, 1000) {
            ids.push(match line {
                Ok(ClientJsonRpcMessage::Request(request)) => (0, Some(request.id)),
                Ok(other) => panic!("{other:?}"),
                Err((error, id)) => (error.code.0, id),
            });
        }
        let number = |number| Some(RequestId::Number(number));
        assert_eq!(ids, [(-32600, number(7)), (-32600, None), (0, number(9)), (-32600, number(7)), (0, number(9))]);
    }
}
