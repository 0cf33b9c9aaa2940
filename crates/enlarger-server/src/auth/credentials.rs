//! Where a request carries its credential: `Authorization` with Bearer or Basic, or a separate header.

use axum::http::{HeaderMap, header};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Headers that may carry a key, besides `Authorization`.
const KEY_HEADERS: [&str; 3] = ["x-api-key", "x-freepik-api-key", "x-magnific-api-key"];
/// Clients differ about padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// All credentials of a request, `Authorization` first.
pub(crate) fn all(headers: &HeaderMap) -> Vec<String> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty());
    let mut found = text(header::AUTHORIZATION.as_str()).map(authorization).unwrap_or_default();
    found.extend(KEY_HEADERS.iter().filter_map(|name| text(name)).map(str::to_owned));
    found
}

/// Whether the request has credentials that a browser repeats by itself (Basic, RFC 7617).
pub(crate) fn is_basic(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(scheme).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
}

fn scheme(value: &str) -> Option<(&str, &str)> {
    value.trim().split_once(' ')
}

/// Possible credentials in a value of `Authorization`.
fn authorization(value: &str) -> Vec<String> {
    match scheme(value) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => vec![rest.trim().to_owned()],
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => basic(rest.trim()).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// `user:password` in base64 (RFC 7617). The key is usually the password, or the user if only one can be given.
fn basic(encoded: &str) -> Option<Vec<String>> {
    let pair = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
    Some([password, user].into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(name: &'static str, value: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        all(&headers)
    }

    #[test]
    fn credentials_are_found_wherever_they_stand() {
        assert_eq!(of("authorization", "Bearer abc"), ["abc"]);
        assert_eq!(of("authorization", "bearer  abc "), ["abc"]);
        // "Aladdin:open sesame", the example of RFC 7617.
        assert_eq!(of("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ["open sesame", "Aladdin"]);
        assert_eq!(of("authorization", "BASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ"), ["open sesame", "Aladdin"]);
        let encoded = |pair: &str| format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair));
        assert_eq!(of("authorization", &encoded("key:")), ["key"]);
        assert_eq!(of("authorization", &encoded(":key")), ["key"]);
        assert_eq!(of("authorization", &encoded("key")), ["key"]);
        assert_eq!(of("authorization", &encoded("me:a:b")), ["a:b", "me"]);
        assert_eq!(of("x-magnific-api-key", " abc "), ["abc"]);
        for nothing in ["Basic", "Basic !!", "Basic Og==", "Digest abc", "Bearer ", "Basic /w=="] {
            assert!(of("authorization", nothing).is_empty(), "{nothing}");
        }
    }
}
