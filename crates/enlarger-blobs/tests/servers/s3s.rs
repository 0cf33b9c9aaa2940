//! s3s, a server that speaks S3's protocol, on a folder. It checks signatures.

use std::net::TcpListener;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;

use super::moto::{BUCKET, KEY};

/// A server with one empty bucket, in this process.
pub struct S3s {
    pub port: u16,
    pub root: tempfile::TempDir,
}

impl S3s {
    pub fn start() -> Self {
        Self::with_secret(KEY.1)
    }

    /// One that expects another secret than clients have.
    pub fn with_secret(secret: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY.0, secret));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        tokio::spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, root }
    }

    pub fn storage(&self) -> String {
        format!("s3://{BUCKET}/some/where?endpoint=http://127.0.0.1:{}", self.port)
    }
}
