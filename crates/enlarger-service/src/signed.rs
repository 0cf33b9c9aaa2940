//! Signed URLs of files: anyone who has one can read (or write) that file until it expires.

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use enlarger_blobs::{Key, Right, Scratch};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use crate::random::random;

/// Why an address is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAddress {
    /// It is not one of ours, or was changed.
    Forged,
    /// It was good once.
    Expired,
}

/// Signs and checks addresses.
#[derive(Clone)]
pub struct Signer {
    key: [u8; 32],
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    /// Signs with this key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Signs with the key in a file, which is made if needed, readable by this user only. `scratch` is on the same disk.
    ///
    /// # Errors
    /// If the file cannot be read or made, or holds something else.
    pub fn open(path: &Path, scratch: &Scratch) -> io::Result<Self> {
        let read = || {
            let bytes = std::fs::read(path)?;
            let key = bytes.try_into();
            key.map(Self::new).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not have 32 bytes"))
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut draft = scratch.draft()?;
        draft.write_all(&random::<32>())?;
        // If several processes start together, one wins and all read what it wrote.
        match draft.persist_new(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => read(),
        }
    }

    /// Tells this secret from others, and nothing else about it.
    pub fn fingerprint(&self) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        mac.update(b"fingerprint");
        mac.finalize().into_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Path and query of a file. Query values have only letters, digits, `-`, `.`, `_` and `~`, because a common client rewrites others.
    pub fn path(&self, key: &Key, right: Right, expires: Timestamp) -> String {
        let expires = expires.as_second().max(0).unsigned_abs();
        format!(
            "/files/{key}?expires={expires}&signature={}",
            BASE64_URL_SAFE_NO_PAD.encode(self.mac(key, right, expires))
        )
    }

    /// Whether the signature in a URL grants a permission.
    ///
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

    /// Reads a URL that may be one of ours, under any host name. `None` if it is not.
    pub fn recognise(&self, url: &str) -> Option<Result<Key, BadAddress>> {
        let (path, query) = url.split_once('?')?;
        let key = Key::parse(&path[path.find("/files/")? + "/files/".len()..])?;
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        match self.check(&key, Right::Read, value("expires")?, value("signature")?) {
            Ok(()) => Some(Ok(key)),
            Err(BadAddress::Expired) => Some(Err(BadAddress::Expired)),
            // Another enlarger server would have such URLs, too.
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use uuid::Uuid;

    use super::*;

    fn from_now(seconds: i64) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_url_is_good_for_one_file_one_right_and_a_while() {
        let signer = Signer::new([7; 32]);
        let [key, other] = [Key::Source(Uuid::from_u128(1)), Key::Source(Uuid::from_u128(2))];
        let path = signer.path(&key, Right::Read, from_now(60));
        for url in [path.clone(), format!("http://a.example/x{path}"), format!("{path}&download=1")] {
            assert_eq!(signer.recognise(&url), Some(Ok(key.clone())), "{url}");
        }
        let value = |name: &str| path.split(&format!("{name}=")).nth(1).unwrap().split('&').next().unwrap().to_owned();
        let (expires, signature) = (value("expires"), value("signature"));
        let check = |key, right, expires: &str, signature: &str| signer.check(key, right, expires, signature);
        assert_eq!(check(&key, Right::Read, &expires, &signature), Ok(()));
        let later = (expires.parse::<u64>().unwrap() + 1).to_string();
        for (key, right, expires, signature) in [
            (&other, Right::Read, expires.as_str(), signature.as_str()),
            (&key, Right::Write, &expires, &signature),
            (&key, Right::Read, &later, &signature),
            (&key, Right::Read, &expires, &signature[1..]),
            (&key, Right::Read, &expires, "not base64!"),
            (&key, Right::Read, "soon", &signature),
            (&key, Right::Read, &expires, ""),
        ] {
            assert_eq!(check(key, right, expires, signature), Err(BadAddress::Forged), "{key} {expires} {signature}");
        }
        assert_eq!(Signer::new([8; 32]).recognise(&path), None, "another server's");
        let expired = signer.path(&key, Right::Read, from_now(-2));
        assert_eq!(signer.recognise(&expired), Some(Err(BadAddress::Expired)));
    }

    #[test]
    fn values_of_a_query_have_only_characters_that_no_client_rewrites() {
        let path = Signer::new([7; 32]).path(&Key::Object(Uuid::from_u128(1)), Right::Write, from_now(60));
        let values = path.split_once('?').unwrap().1.split('&').map(|pair| pair.split_once('=').unwrap().1);
        for value in values {
            assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)), "{value}");
        }
    }

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(&folder.path().join("tmp")).unwrap();
        let path = folder.path().join("signing.key");
        let url =
            Signer::open(&path, &scratch).unwrap().path(&Key::Thumb(Uuid::from_u128(1)), Right::Read, from_now(60));
        assert!(Signer::open(&path, &scratch).unwrap().recognise(&url).is_some_and(|key| key.is_ok()));
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(Signer::open(&path, &scratch).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
