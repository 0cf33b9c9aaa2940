//! Webhooks according to the Standard Webhooks specification: signed, retried on a schedule, never redirected.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use reqwest::{StatusCode, header};
use sha2::Sha256;

use crate::{
    client::pinned,
    error::EgressError,
    policy::{Policy, checked},
    resolve::{Resolve, SystemResolver},
};

/// Attempts per delivery, including the first.
pub const TRIES: u32 = 8;
/// Seconds between the tries.
const PAUSES: [u64; TRIES as usize - 1] = [5, 300, 1800, 7200, 18000, 36000, 36000];
/// Share by which delays vary either way, so that receivers are not hit by waves.
const JITTER: f64 = 0.2;
/// Seconds for one delivery.
const TIMEOUT_SECONDS: u64 = 15;
/// The longest Retry-After that is honoured.
const MAX_RETRY_AFTER_SECONDS: u64 = 24 * 3600;

/// A signing secret.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads a secret: `whsec_` and base64, or any other text, whose UTF-8 bytes are the key.
    ///
    /// # Errors
    /// [`EgressError::Secret`] if the prefix is there and base64 is not.
    pub fn parse(text: &str) -> Result<Self, EgressError> {
        match text.strip_prefix("whsec_") {
            Some(encoded) => Ok(Self(BASE64_STANDARD.decode(encoded).map_err(|_| EgressError::Secret)?)),
            None => Ok(Self(text.as_bytes().to_vec())),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The `webhook-signature` header: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, once per secret.
pub fn signature(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let sign = |secret: &Secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    };
    secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}

/// How long to wait after try number `attempt` (from 1) failed; `None` after the last. `jitter` is a random number in
/// 0..=1, 0.5 being the schedule itself.
pub fn next_try(attempt: u32, jitter: f64) -> Option<Duration> {
    let seconds = *PAUSES.get(attempt.checked_sub(1)? as usize)? as f64;
    Some(Duration::from_secs_f64(seconds * (1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0))))
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// 2xx.
    Ok,
    /// Try again later, after this delay if the receiver asked for one.
    Retry {
        /// Why it failed.
        why: String,
        /// The receiver's Retry-After, bounded by a day.
        after: Option<Duration>,
    },
    /// Never try again.
    Stop {
        /// Why.
        why: String,
    },
}

/// Delivers webhooks to public hosts.
#[derive(Clone)]
pub struct Webhooks {
    policy: Policy,
    secrets: Vec<Secret>,
    resolver: Arc<dyn Resolve>,
}

impl Webhooks {
    /// Signs with every secret, so that receivers can rotate secrets.
    pub fn new(policy: Policy, secrets: Vec<Secret>) -> Self {
        Self::with_resolver(policy, secrets, Arc::new(SystemResolver))
    }

    /// With another resolver.
    pub fn with_resolver(policy: Policy, secrets: Vec<Secret>, resolver: Arc<dyn Resolve>) -> Self {
        Self { policy, secrets, resolver }
    }

    /// One attempt. `event` is the same for all attempts at an event; `timestamp` (Unix seconds) is that of this
    /// attempt.
    pub async fn deliver(&self, url: &str, event: &str, timestamp: i64, body: &[u8]) -> Delivered {
        match self.send(url, event, timestamp, body).await {
            Ok(outcome) => outcome,
            // A name that does not resolve today may tomorrow; a malformed URL stays malformed.
            Err(error @ (EgressError::Url | EgressError::UserInfo)) => Delivered::Stop { why: error.to_string() },
            Err(error) => Delivered::Retry { why: error.to_string(), after: None },
        }
    }

    async fn send(&self, url: &str, event: &str, timestamp: i64, body: &[u8]) -> Result<Delivered, EgressError> {
        let url = checked(url, &self.policy)?;
        let timeout = Duration::from_secs(TIMEOUT_SECONDS);
        let client = pinned(&url, &self.policy, &*self.resolver, timeout).await?;
        let mut request = client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", event)
            .header("webhook-timestamp", timestamp)
            .body(body.to_vec());
        if !self.secrets.is_empty() {
            request = request.header("webhook-signature", signature(&self.secrets, event, timestamp, body));
        }
        let response = request.send().await.map_err(|e| match e.is_timeout() {
            true => EgressError::Timeout(TIMEOUT_SECONDS),
            false => EgressError::Connection,
        })?;
        let status = response.status();
        let after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.trim().parse().ok())
            .map(|seconds: u64| Duration::from_secs(seconds.min(MAX_RETRY_AFTER_SECONDS)));
        Ok(match status {
            s if s.is_success() => Delivered::Ok,
            StatusCode::GONE => Delivered::Stop { why: "the receiver answered 410 Gone".into() },
            s if s.is_redirection() => {
                Delivered::Retry { why: format!("the receiver redirects ({s}), which is not followed"), after }
            }
            s => Delivered::Retry { why: format!("the receiver answered {}", s.as_u16()), after },
        })
    }
}
