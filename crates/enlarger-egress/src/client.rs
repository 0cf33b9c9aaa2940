//! A client that can reach one checked host and nothing else.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use reqwest::{Client, Url, redirect};

use crate::{
    error::EgressError,
    policy::{Policy, literal},
    resolve::Resolve,
};

/// Seconds to establish a connection.
pub(crate) const CONNECT_SECONDS: u64 = 10;

/// Resolves the URL's host, checks every record, and returns a client pinned to them: the name is not resolved again,
/// so a record that changes between check and connection has no effect.
pub(crate) async fn pinned(
    url: &Url,
    policy: &Policy,
    resolver: &dyn Resolve,
    timeout: Duration,
) -> Result<Client, EgressError> {
    let host = url.host_str().ok_or(EgressError::Url)?;
    let mut builder = Client::builder()
        .use_preconfigured_tls(tls().clone())
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
        .timeout(timeout)
        .user_agent(concat!("enlarger/", env!("CARGO_PKG_VERSION")));
    if literal(url).is_none() {
        let lookup = tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS), resolver.resolve(host)).await;
        let addresses = lookup.map_err(|_| EgressError::NotPublic)?.map_err(|_| EgressError::NotPublic)?;
        // One private record among public ones is an attack or a mistake; refuse both.
        if addresses.is_empty() || !addresses.iter().all(|&a| policy.permits(a)) {
            return Err(EgressError::NotPublic);
        }
        let sockets: Vec<SocketAddr> = addresses.into_iter().map(|a| SocketAddr::new(a, 0)).collect();
        builder = builder.dns_resolver(Arc::new(Judged(sockets)));
    }
    builder.build().map_err(|_| EgressError::Connection)
}

/// Answers every lookup with the addresses that were checked. An override for one name would leave other spellings to
/// the system's resolver.
struct Judged(Vec<SocketAddr>);

impl reqwest::dns::Resolve for Judged {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let addresses: reqwest::dns::Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// Mozilla's root certificates, so that nothing needs to be installed.
pub(crate) fn tls() -> &'static rustls::ClientConfig {
    static CONFIG: LazyLock<rustls::ClientConfig> = LazyLock::new(|| {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    });
    &CONFIG
}
