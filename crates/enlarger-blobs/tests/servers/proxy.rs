//! A proxy that can be told to answer for the server behind it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What to do with connections, new and old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Pass,
    /// Answers 503, as S3 does when there are too many requests.
    Busy,
    /// Accepts, and says nothing.
    Silent,
}

pub struct Proxy {
    pub port: u16,
    mood: watch::Sender<Mood>,
}

impl Proxy {
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

async fn attend(mut client: TcpStream, server: u16, mut moods: watch::Receiver<Mood>) {
    let mood = *moods.borrow_and_update();
    let attended = async {
        match mood {
            Mood::Pass => {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
                copy_bidirectional(&mut client, &mut server).await?;
            }
            Mood::Busy => {
                let _ = client.read(&mut [0; 4096]).await?;
                let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
                let head =
                    format!("HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                client.write_all((head + body).as_bytes()).await?;
            }
            Mood::Silent => std::future::pending().await,
        }
        Ok::<_, std::io::Error>(())
    };
    // Connections of the old mood are cut.
    tokio::select! {
        _ = attended => {}
        _ = moods.changed() => {}
    }
}
