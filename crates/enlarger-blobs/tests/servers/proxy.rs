//! A proxy between a client and a server, which can be told to be a bad line.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What to do with connections, new and old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "not every test uses all of them")]
pub enum Mood {
    Pass,
    /// Passes everything on, each piece so much later.
    Slow(Duration),
    /// Keeps what it is given until the mood changes.
    Silent,
    /// Answers 503, as S3 does when there are too many requests. Connections of before are cut.
    Busy,
    /// Accepts nobody. Connections of before are cut, whatever was on its way.
    Closed,
}

impl Mood {
    fn cuts(self) -> bool {
        matches!(self, Self::Busy | Self::Closed)
    }
}

pub struct Proxy {
    pub port: u16,
    mood: watch::Sender<Mood>,
}

impl Proxy {
    /// On a free port.
    pub async fn before(server: u16, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, moods) = watch::channel(mood);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(attend(client, server, moods.clone()));
            }
        });
        Self { port, mood: sender }
    }

    pub fn turn(&self, mood: Mood) {
        self.mood.send(mood).unwrap();
    }
}

async fn attend(mut client: TcpStream, server: u16, moods: watch::Receiver<Mood>) -> io::Result<()> {
    let mood = *moods.borrow();
    match mood {
        Mood::Closed => Ok(()),
        Mood::Busy => {
            let _ = client.read(&mut [0; 4096]).await?;
            let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            let head = format!("HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            client.write_all((head + body).as_bytes()).await
        }
        Mood::Pass | Mood::Slow(_) | Mood::Silent => {
            let (from_client, to_client) = client.split();
            let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
            let (from_server, to_server) = server.split();
            // The first error drops both connections.
            let there = pass(from_client, to_server, moods.clone());
            tokio::try_join!(there, pass(from_server, to_client, moods)).map(drop)
        }
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut moods: watch::Receiver<Mood>,
) -> io::Result<()> {
    let mut piece = vec![0; 1 << 14];
    let mut cuts = moods.clone();
    loop {
        let size = tokio::select! {
            read = from.read(&mut piece) => read?,
            () = until(&mut cuts, Mood::cuts) => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        let mood = *moods.borrow();
        if let Mood::Slow(pause) = mood {
            tokio::time::sleep(pause).await;
        }
        until(&mut moods, |mood| mood != Mood::Silent).await;
        if size == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..size]).await?;
    }
}

/// Returns when the mood is such, or the proxy is gone.
async fn until(moods: &mut watch::Receiver<Mood>, such: impl Fn(Mood) -> bool) {
    let _ = moods.wait_for(|mood| such(*mood)).await;
}
