//! Bearer tokens: HS256 with a secret, or asymmetric with a JSON Web Key Set.

use std::time::{Duration, Instant};

use enlarger_egress::Fetcher;
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    decode, decode_header,
    errors::{ErrorKind, Result as JwtResult},
    jwk::JwkSet,
};
use ring::{hmac, signature as ring_signature};
use serde::Deserialize;
use signature::Verifier;
use tokio::sync::Mutex;

use crate::config::{Config, ConfigError};

/// How long fetched keys are cached.
const KEYS_GOOD_FOR: Duration = Duration::from_secs(600);
/// An unknown key id fetches the set again, but not more often than this.
const KEYS_AT_MOST_EVERY: Duration = Duration::from_secs(30);
/// Largest key set in bytes.
const KEYS_LIMIT: u64 = 1 << 20;

/// Judges bearer tokens.
pub(super) struct Tokens {
    secret: Option<DecodingKey>,
    set: Option<KeySet>,
    audience: String,
    issuer: String,
}

struct KeySet {
    url: String,
    fetcher: Fetcher,
    fetched: Mutex<Option<(Instant, JwkSet)>>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Tokens {
    /// `None` when none are configured.
    pub fn new(config: &Config) -> Result<Option<Self>, ConfigError> {
        let secret = config.jwt_secret.reveal();
        if secret.is_empty() && config.jwks_url.is_empty() {
            return Ok(None);
        }
        // RFC 7518, section 3.2: a key as long as the hash.
        if !secret.is_empty() && secret.len() < 32 {
            let hint = "use at least 32 characters, for example from `openssl rand -hex 32`";
            return Err(ConfigError::new("`jwt_secret` is too short to be secure", hint));
        }
        // The same for every server of a process, so it does not matter which comes first.
        let _ = PROVIDER.install_default();
        let set = (!config.jwks_url.is_empty()).then(|| KeySet {
            url: config.jwks_url.clone(),
            fetcher: Fetcher::new(config.policy()),
            fetched: Mutex::default(),
        });
        let secret = (!secret.is_empty()).then(|| DecodingKey::from_secret(secret.as_bytes()));
        Ok(Some(Self { secret, set, audience: config.jwt_audience.clone(), issuer: config.jwt_issuer.clone() }))
    }

    /// The token's subject, if the token is valid.
    pub async fn subject(&self, token: &str) -> Option<String> {
        let header = decode_header(token).ok()?;
        let key = match (header.alg, &self.secret) {
            (Algorithm::HS256, Some(secret)) => secret.clone(),
            // A public key must never be taken for a shared secret.
            (Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512, _) => return None,
            _ => self.set.as_ref()?.key(header.kid.as_deref()).await?,
        };
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.validate_nbf = true;
        validation.validate_aud = !self.audience.is_empty();
        if !self.audience.is_empty() {
            validation.set_audience(&[&self.audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        if !self.issuer.is_empty() {
            validation.set_issuer(&[&self.issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        let claims = decode::<Claims>(token, &key, &validation).ok()?.claims;
        Some(claims.sub).filter(|subject| !subject.is_empty() && subject.len() <= 255)
    }
}

impl KeySet {
    async fn key(&self, id: Option<&str>) -> Option<DecodingKey> {
        let mut fetched = self.fetched.lock().await;
        let age = fetched.as_ref().map(|(at, _)| at.elapsed());
        let known = fetched.as_ref().and_then(|(_, set)| find(set, id));
        let stale = age.is_none_or(|age| age > KEYS_GOOD_FOR || (known.is_none() && age > KEYS_AT_MOST_EVERY));
        if stale {
            let mut bytes = Vec::new();
            match self.fetcher.fetch(&self.url, KEYS_LIMIT, &mut bytes).await {
                Ok(_) => match serde_json::from_slice(&bytes) {
                    Ok(set) => *fetched = Some((Instant::now(), set)),
                    Err(error) => tracing::warn!(%error, "cannot parse the JSON Web Key Set"),
                },
                Err(error) => tracing::warn!(%error, "cannot fetch the JSON Web Key Set"),
            }
        }
        find(&fetched.as_ref()?.1, id)
    }
}

fn find(set: &JwkSet, id: Option<&str>) -> Option<DecodingKey> {
    let jwk = match id {
        Some(id) => set.find(id)?,
        None if set.keys.len() == 1 => &set.keys[0],
        None => return None,
    };
    DecodingKey::from_jwk(jwk).ok()
}

/// Signatures are checked by the same library that does TLS. Nothing is signed here.
static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: no_signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

fn no_signer(_: &Algorithm, _: &EncodingKey) -> JwtResult<Box<dyn JwtSigner>> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> JwtResult<Box<dyn JwtVerifier>> {
    if algorithm.family() != key.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let unsupported = signature::Error::new;
        let good = match (self.key.kind(), self.algorithm) {
            (DecodingKeyKind::SecretOrDer(secret), Algorithm::HS256) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), message, signature)
            }
            (DecodingKeyKind::RsaModulusExponent { n, e }, algorithm) => {
                let parameters = rsa(algorithm).ok_or_else(unsupported)?;
                ring_signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (DecodingKeyKind::SecretOrDer(key), algorithm) => {
                let parameters = curve(algorithm).ok_or_else(unsupported)?;
                ring_signature::UnparsedPublicKey::new(parameters, key).verify(message, signature)
            }
        };
        good.map_err(|_| unsupported())
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static ring_signature::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&ring_signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn curve(algorithm: Algorithm) -> Option<&'static dyn ring_signature::VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&ring_signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&ring_signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&ring_signature::ED25519),
        _ => None,
    }
}
