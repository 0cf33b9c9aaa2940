//! The field `image`: base64, a `data:` URI, an address, or one of our own addresses.

use std::io::Write;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use enlarger_blobs::{Draft, Key};
use tokio::runtime::Handle;

use crate::{
    app::App,
    error::ApiResult,
    fields::Fields,
    files::signed::BadAddress,
    job::{SourceFacts, limits},
};

/// Where a submitted picture is.
pub(crate) enum Picture {
    /// It came with the request.
    Sent(Draft, SourceFacts),
    /// It lies here already.
    Ours { key: Key, bytes: Bytes, facts: SourceFacts },
    /// It lies elsewhere, and nothing is known of it.
    Remote(String),
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
const FORMS: &str = "must be base64 of a picture, a data: URI or an http(s) URL";

/// Reads the field, on a thread that may wait; what is wrong with it is noted, and `None` then.
///
/// # Errors
/// Only if it could not be stored.
pub(crate) fn read(fields: &mut Fields<'_>, app: &App, base: &str) -> ApiResult<Option<Picture>> {
    let Some(raw) = fields.raw("image") else {
        fields.reject("image", "is required");
        return Ok(None);
    };
    let Some(token) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        fields.reject("image", FORMS);
        return Ok(None);
    };
    let letters = Unescaped(token.bytes());
    let blanks = letters.clone().take_while(u8::is_ascii_whitespace).count();
    let start: Vec<u8> = letters.skip(blanks).take(256).collect();
    let start = String::from_utf8_lossy(&start).into_owned();
    let lower = start.to_ascii_lowercase();
    if lower.starts_with("http://")
        || lower.starts_with("https://")
        || (lower.starts_with("/files/") && lower.contains('?'))
    {
        return address(fields, app, base, raw);
    }
    let skip = match lower.starts_with("data:") {
        false => 0,
        true => match start.find(',').filter(|comma| lower[..*comma].trim_end().ends_with(";base64")) {
            Some(comma) => blanks + comma + 1,
            None => {
                fields.reject("image", "must be base64: the data: URI does not say `;base64,`");
                return Ok(None);
            }
        },
    };
    sent(fields, app, token, skip)
}

/// Decodes base64 into a draft.
fn sent(fields: &mut Fields<'_>, app: &App, token: &str, skip: usize) -> ApiResult<Option<Picture>> {
    let mut draft = app.scratch.draft()?;
    let mut digits = Vec::with_capacity(CHUNK);
    let mut bytes = Vec::with_capacity(CHUNK);
    let mut total = 0;
    let letters = Percent(Unescaped(token.bytes()).skip(skip));
    let mut letters = letters.filter(|byte| !byte.is_ascii_whitespace());
    loop {
        digits.clear();
        bytes.clear();
        digits.extend(letters.by_ref().take(CHUNK).map(|byte| match byte {
            // The alphabet for addresses means the same.
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        }));
        // Padding anywhere but at the very end is an error, also at the end of a chunk.
        let inner_padding = digits.len() == CHUNK && digits.ends_with(b"=") && letters.clone().next().is_some();
        if inner_padding || BASE64.decode_vec(&digits, &mut bytes).is_err() {
            fields.reject("image", FORMS);
            return Ok(None);
        }
        draft.write_all(&bytes)?;
        total += bytes.len() as u64;
        if digits.len() < CHUNK {
            break;
        }
    }
    if total == 0 {
        fields.reject("image", "is empty");
        return Ok(None);
    }
    let facts = facts(fields, app, &draft.map()?);
    Ok(facts.map(|facts| Picture::Sent(draft, facts)))
}

/// An address: one of ours is read from the store, never over the network.
fn address(fields: &mut Fields<'_>, app: &App, base: &str, raw: &str) -> ApiResult<Option<Picture>> {
    if raw.len() > LONGEST_URL {
        fields.reject("image", format!("must have at most {LONGEST_URL} characters when it is a URL"));
        return Ok(None);
    }
    let Ok(url) = serde_json::from_str::<String>(raw).map(|url| url.trim().to_owned()) else {
        fields.reject("image", FORMS);
        return Ok(None);
    };
    let key = match app.signer.recognise(&url) {
        Some(Ok(key)) => key,
        Some(Err(BadAddress::Expired)) => {
            fields.reject_with("image", "cannot be used: its address has expired", Some("upload the picture again"));
            return Ok(None);
        }
        _ if url.starts_with("/files/") || url.strip_prefix(base).is_some_and(|path| path.starts_with("/files/")) => {
            fields.reject("image", "cannot be used: its address is not one that this server gave out");
            return Ok(None);
        }
        _ => {
            return Ok(match enlarger_egress::check_url(&url, &app.policy) {
                Ok(()) => Some(Picture::Remote(url)),
                Err(error) => {
                    fields.reject_with("image", format!("cannot be used: {error}"), error.hint());
                    None
                }
            });
        }
    };
    match Handle::current().block_on(app.blobs.map(&key)) {
        Ok(bytes) => Ok(facts(fields, app, &bytes).map(|facts| Picture::Ours { key, bytes, facts })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let hint = "send the bytes with PUT to the upload_url first";
            fields.reject_with("image", "cannot be used: there is no file at its address", Some(hint));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// What the header says, if it is a picture that can be used.
fn facts(fields: &mut Fields<'_>, app: &App, bytes: &[u8]) -> Option<SourceFacts> {
    match enlarger_image::probe(bytes, &limits(&app.config)) {
        Ok(header) => Some(SourceFacts::new(&header, bytes.len() as u64)),
        Err(error) => {
            fields.reject_with("image", format!("cannot be used: {error}"), error.hint());
            None
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

/// The bytes of a JSON string token without its escapes. Serializers may escape `/`, which base64 has; what cannot stand in
/// base64 or an address comes out as a byte that neither has.
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
