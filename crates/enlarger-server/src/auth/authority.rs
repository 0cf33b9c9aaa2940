//! Who is calling: an anonymous client, an API key, or the bearer of a token.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use enlarger_tasks::{ApiKeys, Scope};
use governor::{Quota, RateLimiter, clock::Clock, clock::DefaultClock, state::keyed::HashMapStateStore};
use uuid::Uuid;

use super::{credentials, jwt, keys};
use crate::{
    config::{Config, ConfigError},
    http::{ApiError, ApiResult},
};

/// How often the use of a key is stored.
const NOTE_USE: Duration = Duration::from_secs(60);
/// Owners whose rate is remembered before idle ones are forgotten.
const REMEMBERED: usize = 10_000;

/// Who is calling.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Owner of new tasks; `None` if credentials are off.
    pub owner: Option<String>,
    /// Whether keys and models may be changed.
    pub admin: bool,
}

impl Caller {
    /// Whose tasks this caller may see.
    pub fn scope(&self) -> Scope {
        self.owner.clone().map_or(Scope::All, Scope::Owner)
    }

    /// # Errors
    /// 403 unless this caller may change keys and models.
    pub fn require_admin(&self) -> ApiResult<()> {
        let refused = || {
            ApiError::forbidden("this needs an administrator's key").hint(
                "create one with `enlarger keys create \
                NAME --admin`",
            )
        };
        self.admin.then_some(()).ok_or_else(refused)
    }
}

/// Checks credentials and rates.
pub(crate) struct Authority {
    required: bool,
    keys: Arc<dyn ApiKeys>,
    tokens: Option<jwt::Tokens>,
    rates: RateLimiter<String, HashMapStateStore<String>, DefaultClock>,
    noted: Mutex<HashMap<Uuid, Instant>>,
}

impl Authority {
    pub fn new(config: &Config, keys: Arc<dyn ApiKeys>) -> Result<Self, ConfigError> {
        let per_second = NonZeroU32::new(config.requests_per_second).unwrap_or(NonZeroU32::MIN);
        let quota =
            Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
        Ok(Self {
            required: config.asks_for_credentials(),
            keys,
            tokens: jwt::Tokens::new(config)?,
            rates: RateLimiter::hashmap(quota),
            noted: Mutex::default(),
        })
    }

    /// Whether credentials are required.
    pub fn required(&self) -> bool {
        self.required
    }

    /// The caller that sent these headers.
    ///
    /// # Errors
    /// 401 without a valid credential if one is required, 429 above the key's rate.
    pub async fn caller(&self, headers: &HeaderMap) -> ApiResult<Caller> {
        if !self.required {
            return Ok(Caller { owner: None, admin: true });
        }
        let credentials = credentials::all(headers);
        if credentials.is_empty() {
            return Err(ApiError::unauthorized("Missing API key"));
        }
        // Clients of other services send those services' keys along, so one valid credential among several is enough.
        for credential in &credentials {
            if let Some(caller) = self.known(credential).await? {
                self.check_rate(caller.owner.as_deref().unwrap_or_default())?;
                return Ok(caller);
            }
        }
        Err(ApiError::unauthorized("Invalid API key"))
    }

    /// Whose credential this is.
    async fn known(&self, credential: &str) -> ApiResult<Option<Caller>> {
        if credential.starts_with(keys::START) {
            let Some(key) = keys::verify(&*self.keys, credential).await? else { return Ok(None) };
            if self.should_note(key.id) {
                self.keys.used(key.id).await?;
            }
            return Ok(Some(Caller { owner: Some(key.id.to_string()), admin: keys::is_admin(&key) }));
        }
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let subject = tokens.subject(credential).await;
        Ok(subject.map(|subject| Caller { owner: Some(format!("jwt:{subject}")), admin: false }))
    }

    fn should_note(&self, key: Uuid) -> bool {
        let mut noted = self.noted.lock().expect("no panic under it");
        let now = Instant::now();
        let due = noted.get(&key).is_none_or(|at| now.duration_since(*at) > NOTE_USE);
        if due {
            noted.insert(key, now);
        }
        due
    }

    fn check_rate(&self, owner: &str) -> ApiResult<()> {
        if self.rates.len() > REMEMBERED {
            self.rates.retain_recent();
        }
        self.rates.check_key(&owner.to_owned()).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests with this key");
            error.retry_after(wait)
        })
    }
}

/// Admits only known callers, and passes the caller to handlers.
pub(crate) async fn require(State(auth): State<Arc<Authority>>, mut request: Request, next: Next) -> Response {
    match auth.caller(request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}
