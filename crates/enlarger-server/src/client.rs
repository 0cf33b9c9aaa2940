//! Who sent a request, and how it reached us.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, request::Parts},
};

use crate::{
    auth::Caller,
    http::{ApiError, BaseUrl},
};

/// Everything about a request besides its body.
pub(crate) struct Client {
    /// Who it is.
    pub caller: Caller,
    /// What URLs for it begin with.
    pub base: String,
    /// What it sent along.
    pub headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Client
where
    BaseUrl: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| ApiError::internal("a route that needs a caller is open to everybody"))?;
        let base = BaseUrl::from_ref(state).of(&parts.headers);
        Ok(Self { caller, base, headers: parts.headers.clone() })
    }
}
