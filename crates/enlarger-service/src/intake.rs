//! Images as clients send them: base64, a `data:` URI, a URL, or one of our own signed URLs.

use std::io::{self, Write};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use enlarger_blobs::{Draft, Key};
use enlarger_egress::Policy;
use enlarger_error::Explained;
use enlarger_image::{ImageError, Limits};
use tokio::runtime::Handle;

use crate::{files::Files, job::SourceInfo, signed::BadAddress, urls::Urls};

/// Where a submitted picture is.
pub enum Received {
    /// It came with the request.
    Sent(Draft, SourceInfo),
    /// It is stored here already.
    Ours {
        /// Where.
        key: Key,
        /// What it is made of.
        bytes: Bytes,
        /// What its header says.
        info: SourceInfo,
    },
    /// It is on another host, to be fetched.
    Remote(String),
}

impl Received {
    /// Its header, if it is already here.
    pub fn info(&self) -> Option<&SourceInfo> {
        match self {
            Self::Sent(_, info) | Self::Ours { info, .. } => Some(info),
            Self::Remote(_) => None,
        }
    }
}

/// Why a picture is not accepted.
#[derive(Debug)]
pub enum Unusable {
    /// Something is wrong with it.
    Refused {
        /// What, without a subject: "is empty".
        reason: String,
        /// What to do about it.
        hint: Option<String>,
        /// What it is for programs, if there is a name for it.
        code: Option<&'static str>,
    },
    /// It could not be stored or read here.
    Files(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Files(error)
    }
}

fn refused(reason: impl Into<String>) -> Unusable {
    Unusable::Refused { reason: reason.into(), hint: None, code: None }
}

fn refused_with(reason: impl Into<String>, hint: &str) -> Unusable {
    Unusable::Refused { reason: reason.into(), hint: Some(hint.to_owned()), code: None }
}

/// It cannot be used because of this.
fn unusable(error: &dyn Explained) -> Unusable {
    let hint = error.hint().map(Into::into);
    Unusable::Refused { reason: format!("cannot be used: {error}"), hint, code: Some(error.exact_code()) }
}

/// Longest address.
const LONGEST_URL: usize = 8192;
/// Base64 digits decoded at once; a multiple of four.
const CHUNK: usize = 64 << 10;
/// Padding may be there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const FORMS: &str = "must be a base64-encoded image, a data: URI or an http(s) URL";

/// Receives pictures. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Where they go.
    pub files: Files,
    /// Which URLs are our own.
    pub urls: Urls,
    /// Which others may be fetched.
    pub policy: Policy,
    /// How large they may be.
    pub limits: Limits,
}

impl Intake {
    /// Reads a picture from a JSON value, including its quotes, on a thread that may block. URLs of this server begin
    /// with `base`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn receive(&self, value: &str, base: &str) -> Result<Received, Unusable> {
        let token = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(|| refused(FORMS))?;
        let letters = Unescaped(token.bytes());
        let blanks = letters.clone().take_while(u8::is_ascii_whitespace).count();
        let start: Vec<u8> = letters.skip(blanks).take(256).collect();
        let start = String::from_utf8_lossy(&start).into_owned();
        let lower = start.to_ascii_lowercase();
        if lower.starts_with("http://")
            || lower.starts_with("https://")
            || (lower.starts_with("/files/") && lower.contains('?'))
        {
            return self.address(value, base);
        }
        let skip = match lower.starts_with("data:") {
            false => 0,
            true => match start.find(',').filter(|comma| lower[..*comma].trim_end().ends_with(";base64")) {
                Some(comma) => blanks + comma + 1,
                None => {
                    let hint = "begin it with data:image/png;base64, and the like; curl -F cuts values off at `;`, so use \
                        --form-string for it, or send the file: -F image=@photo.png";
                    return Err(refused_with("must be base64: the data: URI does not say `;base64,`", hint));
                }
            },
        };
        self.sent(token, skip)
    }

    /// Takes a picture whose bytes came as they are.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn attached(&self, draft: Draft) -> Result<Received, Unusable> {
        let info = self.info(&draft.map()?)?;
        Ok(Received::Sent(draft, info))
    }

    /// Decodes base64 into a draft.
    fn sent(&self, token: &str, skip: usize) -> Result<Received, Unusable> {
        let mut draft = self.files.scratch.draft()?;
        let mut digits = Vec::with_capacity(CHUNK);
        let mut bytes = Vec::with_capacity(CHUNK);
        let mut total = 0;
        let letters = Percent(Unescaped(token.bytes()).skip(skip));
        let mut letters = letters.filter(|byte| !byte.is_ascii_whitespace());
        loop {
            digits.clear();
            bytes.clear();
            digits.extend(letters.by_ref().take(CHUNK).map(|byte| match byte {
                // The URL-safe alphabet is equivalent.
                b'-' => b'+',
                b'_' => b'/',
                other => other,
            }));
            // Padding anywhere but at the very end is an error, also at the end of a chunk.
            let inner_padding = digits.len() == CHUNK && digits.ends_with(b"=") && letters.clone().next().is_some();
            if inner_padding || BASE64.decode_vec(&digits, &mut bytes).is_err() {
                return Err(refused(FORMS));
            }
            draft.write_all(&bytes)?;
            total += bytes.len() as u64;
            if digits.len() < CHUNK {
                break;
            }
        }
        if total == 0 {
            let code = Some(ImageError::Empty.code());
            return Err(Unusable::Refused { reason: "is empty".to_owned(), hint: None, code });
        }
        self.attached(draft)
    }

    /// A URL: one of ours is read from the store, never over the network.
    fn address(&self, value: &str, base: &str) -> Result<Received, Unusable> {
        if value.len() > LONGEST_URL {
            return Err(refused(format!("must have at most {LONGEST_URL} characters when it is a URL")));
        }
        let url = serde_json::from_str::<String>(value).map(|url| url.trim().to_owned());
        let url = url.map_err(|_| refused(FORMS))?;
        let key = match self.urls.recognise(&url) {
            Some(Ok(key)) => key,
            Some(Err(BadAddress::Expired)) => {
                let reason = "cannot be used: its URL has expired";
                return Err(refused_with(reason, "upload the image again"));
            }
            _ if url.starts_with("/files/")
                || url.strip_prefix(base).is_some_and(|path| path.starts_with("/files/")) =>
            {
                return Err(refused("cannot be used: its URL was not issued by this server"));
            }
            _ => {
                return match enlarger_egress::check_url(&url, &self.policy) {
                    Ok(()) => Ok(Received::Remote(url)),
                    Err(error) => Err(unusable(&error)),
                };
            }
        };
        match Handle::current().block_on(self.files.blobs.map(&key)) {
            Ok(bytes) => self.info(&bytes).map(|info| Received::Ours { key, bytes, info }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let hint = "send the bytes to the upload_url with PUT first";
                Err(refused_with("cannot be used: there is no file at its URL", hint))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The header, if the picture can be used.
    fn info(&self, bytes: &[u8]) -> Result<SourceInfo, Unusable> {
        match enlarger_image::probe(bytes, &self.limits) {
            Ok(header) => Ok(SourceInfo::new(&header, bytes.len() as u64)),
            Err(error) => Err(unusable(&error)),
        }
    }
}

/// Bytes without percent-encoding, which `data:` URIs may have (RFC 2397) and forms leave behind. base64 has no percent sign, so
/// what is not an escape is left for it to refuse.
#[derive(Clone)]
struct Percent<I>(I);

impl<I: Iterator<Item = u8> + Clone> Iterator for Percent<I> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let byte = self.0.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let mut ahead = self.0.clone();
        let mut digit = || char::from(ahead.next()?).to_digit(16);
        let Some((high, low)) = digit().zip(digit()) else { return Some(byte) };
        self.0 = ahead;
        u8::try_from(high * 16 + low).ok()
    }
}

/// The bytes of a JSON string token without its escapes. Serializers may escape `/`, which base64 has; what cannot
/// occur in base64 or a URL comes out as a byte that occurs in neither.
#[derive(Clone)]
struct Unescaped<'a>(std::str::Bytes<'a>);

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        const NEVER: u8 = 0xff;
        let byte = self.0.next()?;
        if byte != b'\\' {
            return Some(byte);
        }
        Some(match self.0.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let digits: String = self.0.by_ref().take(4).map(char::from).collect();
                u16::from_str_radix(&digits, 16).ok().and_then(|code| u8::try_from(code).ok()).unwrap_or(NEVER)
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_json_and_of_addresses_are_undone() {
        let read = |token: &'static str| String::from_utf8(Percent(Unescaped(token.bytes())).collect()).unwrap();
        assert_eq!(read(r"ab\/c\u002b%2B%2f%3D"), "ab/c++/=");
        assert_eq!(read("%2B%"), "+%");
        assert_eq!(read("%zz%4"), "%zz%4");
        assert_eq!(read(r"%\u0032B"), "+");
    }
}
