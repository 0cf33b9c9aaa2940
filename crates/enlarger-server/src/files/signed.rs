//! Addresses of files: whoever has one can read (or write) that file until it expires.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use enlarger_blobs::{Key, Right};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use sha2::Sha256;

/// Why an address is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadAddress {
    /// It is not one of ours, or was changed.
    Forged,
    /// It was good once.
    Expired,
}

/// Signs and checks addresses.
#[derive(Clone)]
pub(crate) struct Signer {
    key: [u8; 32],
}

impl Signer {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Path and query of a file. Query values have only letters, digits, `-`, `.`, `_` and `~`, because a common client rewrites others.
    pub fn path(&self, key: &Key, right: Right, expires: Timestamp) -> String {
        let expires = expires.as_second().max(0).unsigned_abs();
        format!(
            "/files/{key}?expires={expires}&signature={}",
            BASE64_URL_SAFE_NO_PAD.encode(self.mac(key, right, expires))
        )
    }

    /// # Errors
    /// [`BadAddress`].
    pub fn check(&self, key: &Key, right: Right, expires: &str, signature: &str) -> Result<(), BadAddress> {
        let expires: u64 = expires.parse().map_err(|_| BadAddress::Forged)?;
        let given = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadAddress::Forged)?;
        let same = subtle::ConstantTimeEq::ct_eq(given.as_slice(), self.mac(key, right, expires).as_slice());
        if !bool::from(same) {
            return Err(BadAddress::Forged);
        }
        if Timestamp::now().as_second().unsigned_abs() > expires { Err(BadAddress::Expired) } else { Ok(()) }
    }

    /// Reads an address that may be one of ours, by whatever host name it was reached. `None` when it is somebody else's.
    pub fn recognise(&self, url: &str) -> Option<Result<Key, BadAddress>> {
        let (path, query) = url.split_once('?')?;
        let key = Key::parse(&path[path.find("/files/")? + "/files/".len()..])?;
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        match self.check(&key, Right::Read, value("expires")?, value("signature")?) {
            Ok(()) => Some(Ok(key)),
            Err(BadAddress::Expired) => Some(Err(BadAddress::Expired)),
            // Another server of this kind would have such addresses, too.
            Err(BadAddress::Forged) => None,
        }
    }

    fn mac(&self, key: &Key, right: Right, expires: u64) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let right = if right == Right::Read { "read" } else { "write" };
        mac.update(format!("{right}\n{key}\n{expires}").as_bytes());
        mac.finalize().into_bytes().into()
    }
}
