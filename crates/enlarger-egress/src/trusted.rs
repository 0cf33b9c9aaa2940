//! One service whose address the operator sets: it may be anywhere, this machine included, and what it answers is still hostile.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use reqwest::{
    Client, RequestBuilder, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{self, HeaderMap, HeaderValue},
    redirect,
};

use crate::{
    client::{CONNECT_SECONDS, tls},
    error::EgressError,
};

/// What the service answered, whatever the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a service gave no answer. As everything that clients may read, it does not say where the service is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The name in its address is not known.
    #[error("the name of its host is not known")]
    Name,
    /// Nothing listens at its address.
    #[error("the connection was refused")]
    Refused,
    /// The encrypted connection was not agreed on.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// Nobody answered in time.
    #[error("it did not answer within {0} seconds")]
    Timeout(u64),
    /// There is no way to its address, or the connection was lost.
    #[error("there is no way to it, or the connection was lost")]
    Connection,
    /// Something else speaks there.
    #[error("its answer is not HTTP")]
    Protocol,
    /// The answer is longer than allowed.
    #[error("its answer is longer than {} KB", .0 >> 10)]
    TooLarge(u64),
}

/// A service at an address that no client chose. Redirects are not followed, proxies are not used, and connections are not kept: it may
/// be called from one runtime after another.
#[derive(Clone)]
pub struct TrustedService {
    base: Url,
    client: Client,
    patience: Duration,
}

impl TrustedService {
    /// Reads its address, `http://HOST:PORT` or with a path that all others go below. Nothing is resolved or called. `secrets` are
    /// headers that no log shows; `patience` is for a request, its body and the answer's included.
    ///
    /// # Errors
    /// [`EgressError::Url`] unless it is an http or https URL, [`EgressError::UserInfo`] if it contains a password, and
    /// [`EgressError::Key`] if the value of a header has characters that cannot be sent.
    pub fn new(address: &str, secrets: &[(&'static str, &str)], patience: Duration) -> Result<Self, EgressError> {
        let mut base = Url::parse(address.trim()).map_err(|_| EgressError::Url)?;
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() || base.fragment().is_some() {
            return Err(EgressError::Url);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(EgressError::UserInfo);
        }
        base.path_segments_mut().map_err(|()| EgressError::Url)?.pop_if_empty();
        let mut headers = HeaderMap::new();
        for (name, secret) in secrets {
            let mut value = HeaderValue::from_str(secret).map_err(|_| EgressError::Key)?;
            value.set_sensitive(true);
            headers.insert(*name, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .use_preconfigured_tls(tls().clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Names))
            .pool_max_idle_per_host(0)
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
            .timeout(patience)
            .user_agent(concat!("enlarger/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| EgressError::Connection)?;
        Ok(Self { base, client, patience })
    }

    /// The name of its host.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Gets what lies at a path with a query, at most `limit` bytes.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn get(&self, path: &[&str], query: &[(&str, &str)], limit: u64) -> Result<Answer, Unanswered> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.client.get(url), limit).await
    }

    /// Posts a body of a type to a path; the answer has at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &[&str], media: &str, body: Vec<u8>, limit: u64) -> Result<Answer, Unanswered> {
        self.answer(self.client.post(self.url(path)).header(header::CONTENT_TYPE, media).body(body), limit).await
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("checked in `new`").extend(path);
        url
    }

    async fn answer(&self, request: RequestBuilder, limit: u64) -> Result<Answer, Unanswered> {
        let told = |error: reqwest::Error| unanswered(&error, self.patience);
        let mut response: Response = request.send().await.map_err(told)?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(told)? {
            if body.len() as u64 + piece.len() as u64 > limit {
                return Err(Unanswered::TooLarge(limit));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status: response.status().as_u16(), body })
    }
}

fn unanswered(failed: &reqwest::Error, patience: Duration) -> Unanswered {
    if failed.is_timeout() {
        return Unanswered::Timeout(if failed.is_connect() { CONNECT_SECONDS } else { patience.as_secs() });
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(failed);
    while let Some(error) = cause {
        if error.is::<UnknownName>() {
            return Unanswered::Name;
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Unanswered::Tls(tls.to_string());
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Unanswered::Protocol;
        }
        let io = error.downcast_ref::<io::Error>();
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return Unanswered::Refused,
            // Nothing but TLS reads before there is a connection.
            Some(io::ErrorKind::UnexpectedEof) if failed.is_connect() => {
                return Unanswered::Tls("the connection was closed".into());
            }
            _ => {}
        }
        // What an error of input and output wraps is not among its sources.
        let wrapped = io.and_then(|io| io.get_ref()).map(|inner| inner as &(dyn Error + 'static));
        cause = wrapped.or_else(|| error.source());
    }
    Unanswered::Connection
}

/// The system's names, so that a name that is not known can be told from a host that is not there.
struct Names;

#[derive(Debug)]
struct UnknownName;

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name is not known")
    }
}

impl Error for UnknownName {}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| UnknownName)?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}
