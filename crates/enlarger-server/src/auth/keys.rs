//! API keys: `enl_PREFIX_SECRETCHECKSUM`.
//!
//! The prefix finds the row, 32 random bytes are the secret, four bytes of checksum detect a mistyped key before any
//! lookup. What is stored is the SHA-256 of the whole: 256 random bits cannot be guessed, so a slow hash would only
//! slow requests down.

use enlarger_service::random::random;
pub use enlarger_tasks::ApiKey;
use enlarger_tasks::{ApiKeys, NewApiKey, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;
use uuid::Uuid;

/// How every key begins.
pub(crate) const START: &str = "enl";
const PLAIN: &str = "enl_";
const ADMIN: &str = "enladm_";

/// A newly created key. Only its hash is stored: this is the only time it can be shown.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The whole key.
    pub key: String,
    /// The part that is stored.
    pub stored: ApiKey,
}

/// Creates a key. An administrator's may also manage keys and models.
///
/// # Errors
/// If the store fails.
pub async fn create(keys: &dyn ApiKeys, name: &str, admin: bool) -> Result<NewKey, StoreError> {
    loop {
        let start = if admin { ADMIN } else { PLAIN };
        let prefix = format!("{start}{}", hex::encode(random::<4>()));
        let body = format!("{prefix}_{}", hex::encode(random::<32>()));
        let key = format!("{body}{}", checksum(&body));
        let new = NewApiKey { name: name.to_owned(), prefix, hash: Sha256::digest(&key).into() };
        // A taken prefix has a chance of one in four billion; try again.
        if let Some(stored) = keys.create(new).await? {
            return Ok(NewKey { key, stored });
        }
    }
}

/// All keys, oldest first, including revoked ones.
///
/// # Errors
/// If the store fails.
pub async fn list(keys: &dyn ApiKeys) -> Result<Vec<ApiKey>, StoreError> {
    keys.list().await
}

/// Revokes the key with this prefix; `None` when there is none.
///
/// # Errors
/// If the store fails.
pub async fn revoke(keys: &dyn ApiKeys, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
    keys.revoke(prefix).await
}

/// The public part of an API key.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct KeyInfo {
    /// Stable id, recorded as the owner of tasks.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// The key's prefix.
    pub prefix: String,
    /// Whether it may manage keys and models.
    pub admin: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub revoked_at: Option<Timestamp>,
}

/// The public part of an API key.
pub fn describe(key: &ApiKey) -> KeyInfo {
    KeyInfo {
        id: key.id,
        name: key.name.clone(),
        prefix: key.prefix.clone(),
        admin: is_admin(key),
        created_at: key.created_at,
        last_used_at: key.last_used_at,
        revoked_at: key.revoked_at,
    }
}

/// Whether this key may manage keys and models.
pub fn is_admin(key: &ApiKey) -> bool {
    key.prefix.starts_with(ADMIN)
}

/// The stored key with this text, unless it is revoked or unknown.
pub(crate) async fn verify(keys: &dyn ApiKeys, text: &str) -> Result<Option<ApiKey>, StoreError> {
    let Some(prefix) = prefix_of(text) else { return Ok(None) };
    let Some(stored) = keys.find(prefix).await? else { return Ok(None) };
    let hash: [u8; 32] = Sha256::digest(text).into();
    let good = bool::from(hash.ct_eq(&stored.hash)) && stored.revoked_at.is_none();
    Ok(good.then_some(stored))
}

/// The prefix of a text that has the form of a key and the right checksum.
fn prefix_of(text: &str) -> Option<&str> {
    let (body, sum) = text.split_at_checked(text.len().checked_sub(CHECKSUM_DIGITS)?)?;
    let (prefix, secret) = body.rsplit_once('_')?;
    (secret.len() == 64 && sum == checksum(body)).then_some(prefix)
}

const CHECKSUM_DIGITS: usize = 8;

fn checksum(body: &str) -> String {
    hex::encode(&Sha256::digest(body)[..CHECKSUM_DIGITS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_key_has_a_prefix() {
        let body = format!("enladm_0a1b2c3d_{}", "7".repeat(64));
        let key = format!("{body}{}", checksum(&body));
        assert_eq!(prefix_of(&key), Some("enladm_0a1b2c3d"));
        let mistyped = key.replacen('7', "8", 1);
        for wrong in
            [mistyped.as_str(), &key[1..], &key[..key.len() - 1], &body, "enl_", "", "\u{1F600}\u{1F600}\u{1F600}"]
        {
            assert_eq!(prefix_of(wrong), None, "{wrong}");
        }
    }
}
