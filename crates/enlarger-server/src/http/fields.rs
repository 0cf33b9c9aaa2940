//! Reading a JSON object liberally, and reporting all errors at once.

use std::{collections::HashMap, ops::RangeInclusive};

use axum::http::StatusCode;
use enlarger_error::Explained;
use enlarger_image::{Format, ImageError};
use serde_json::{Value, value::RawValue};

use super::error::{ApiError, ApiResult, InvalidParam};

/// The fields of a body. Unknown ones are ignored, and `null` and `""` count as absent. Every reader returns a usable
/// value and notes what is wrong; [`Fields::done`] reports it.
pub(crate) struct Fields<'a> {
    raw: HashMap<String, &'a RawValue>,
    invalid: Vec<InvalidParam>,
    hint: Option<String>,
    code: Option<&'static str>,
}

impl<'a> Fields<'a> {
    /// # Errors
    /// If the bytes are not a JSON object: 415 for other content types.
    pub fn parse(body: &'a [u8]) -> ApiResult<Self> {
        // Some editors and languages begin UTF-8 with a mark, which readers may ignore (RFC 8259, section 8.1).
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let raw = serde_json::from_slice(body).map_err(|error| not_an_object(body, &error))?;
        Ok(Self { raw, invalid: Vec::new(), hint: None, code: None })
    }

    /// Records that a field is invalid.
    pub fn reject(&mut self, name: &str, reason: impl Into<String>) {
        self.invalid.push(InvalidParam { name: name.into(), reason: reason.into() });
    }

    /// The same with a hint. Of several hints the first is reported.
    pub fn reject_with(&mut self, name: &str, reason: impl Into<String>, hint: Option<impl Into<String>>) {
        self.reject(name, reason);
        self.hint = self.hint.take().or(hint.map(Into::into));
    }

    /// Notes that a field cannot be accepted because of an error: `what` of it failed. Of several errors the first gives hint and code.
    pub fn reject_error(&mut self, name: &str, what: &str, error: &dyn Explained) {
        self.reject_with(name, format!("{what}: {error}"), error.hint());
        self.note_code(Some(error.exact_code()));
    }

    /// Notes what is wrong for programs. Of several codes the first is told.
    pub fn note_code(&mut self, code: Option<&'static str>) {
        self.code = self.code.or(code);
    }

    /// # Errors
    /// All that was wrong.
    pub fn done(&mut self) -> ApiResult<()> {
        if self.invalid.is_empty() {
            return Ok(());
        }
        Err(ApiError {
            hint: self.hint.take(),
            exact: self.code.take(),
            ..ApiError::invalid(std::mem::take(&mut self.invalid))
        })
    }

    /// A field's raw text including quotes, for values too large to copy.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.raw.get(name).map(|raw| raw.get()).filter(|text| !matches!(*text, "null" | "\"\""))
    }

    /// A field's value.
    pub fn value(&self, name: &str) -> Option<Value> {
        // Valid raw JSON can still be too deep or out of range as a value.
        self.raw(name).map(|text| serde_json::from_str(text).unwrap_or(Value::String(String::new())))
    }

    /// A whole number; also accepts `5.0` and `"5"`.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>, default: i64) -> i64 {
        let Some(value) = self.value(name) else { return default };
        match whole(&value) {
            Some(number) if range.contains(&number) => number,
            Some(_) => {
                self.reject(name, format!("must be between {} and {}", range.start(), range.end()));
                default
            }
            None => {
                self.reject(name, format!("must be an integer between {} and {}", range.start(), range.end()));
                default
            }
        }
    }

    /// A number; also accepts text, and a factor as `"4x"`.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>, default: f64) -> f64 {
        let Some(value) = self.value(name) else { return default };
        let number = match &value {
            Value::String(text) => text.trim().trim_end_matches(['x', 'X']).parse().ok(),
            other => other.as_f64(),
        };
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.reject(name, format!("must be a number between {} and {}", range.start(), range.end()));
            default
        })
    }

    /// One of some choices, by its name.
    pub fn choice<T: Copy>(&mut self, field: &str, choices: &[T], name: impl Fn(T) -> &'static str) -> Option<T> {
        let value = self.value(field)?;
        let found = value.as_str().and_then(|text| choices.iter().find(|choice| name(**choice) == text));
        if found.is_none() {
            let all: Vec<&str> = choices.iter().map(|choice| name(*choice)).collect();
            self.reject(field, format!("must be one of {}", all.join(", ")));
        }
        found.copied()
    }

    /// A string of at most this many characters.
    pub fn text(&mut self, name: &str, longest: usize) -> Option<String> {
        match self.value(name)? {
            Value::String(text) if text.chars().count() <= longest => Some(text),
            Value::String(_) => {
                self.reject(name, format!("must have at most {longest} characters"));
                None
            }
            _ => {
                self.reject(name, "must be a string");
                None
            }
        }
    }

    /// A boolean; also accepts words and digits, as forms and shells send them.
    pub fn flag(&mut self, name: &str) -> bool {
        let Some(value) = self.value(name) else { return false };
        let word = value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_ascii_lowercase());
        match word.as_str() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => {
                self.reject(name, "must be true or false");
                false
            }
        }
    }

    /// The factor of an enlargement: `"2x"`, `"2"`, `2` or `2.0`, if `permitted`.
    pub fn scale_factor(&mut self, permitted: impl Fn(i64) -> bool, reason: &str) -> u32 {
        const DEFAULT: u32 = 2;
        let Some(value) = self.value("scale_factor") else { return DEFAULT };
        let number = match &value {
            Value::String(text) => whole_text(text.trim().trim_end_matches(['x', 'X'])),
            other => whole(other),
        };
        match number.filter(|number| permitted(*number)).and_then(|number| u32::try_from(number).ok()) {
            Some(number) => number,
            None => {
                self.reject("scale_factor", reason);
                DEFAULT
            }
        }
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => whole_text(text),
        other => other.as_i64().or_else(|| without_fraction(other.as_f64()?)),
    }
}

fn whole_text(text: &str) -> Option<i64> {
    let text = text.trim();
    text.parse().ok().or_else(|| without_fraction(text.parse().ok()?))
}

fn without_fraction(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
}

fn not_an_object(body: &[u8], error: &serde_json::Error) -> ApiError {
    if let Some(kind) = other_kind(body) {
        let message = format!("the body is {kind}, but this route expects JSON");
        let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
        return error.hint(
            "send a JSON object in UTF-8, with the image as base64 or as the URL that POST /customers/storage returns",
        );
    }
    let message = match error.classify() {
        _ if body.trim_ascii().is_empty() => "the body is empty; expected a JSON object".to_owned(),
        serde_json::error::Category::Data => "the body must be a JSON object".to_owned(),
        _ => format!("the body is not valid JSON (line {}, column {})", error.line(), error.column()),
    };
    ApiError::bad_request("invalid_json", message)
}

/// What a body is that cannot be JSON, if that is recognisable. Looks at its bytes, because clients leave its type out
/// or send a wrong one.
fn other_kind(body: &[u8]) -> Option<&'static str> {
    let start = &body[..body.len().min(1024)];
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    let name =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.%[]".contains(&b));
    if text.starts_with("--") && text.contains("content-disposition:") {
        Some("multipart/form-data")
    } else if text.split_once('=').is_some_and(|(first, _)| name(first)) {
        Some("a form (application/x-www-form-urlencoded)")
    } else if !matches!(Format::sniff(body), Err(ImageError::Unknown | ImageError::Empty)) {
        Some("a file")
    } else if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") || start.get(1) == Some(&0) {
        Some("UTF-16 text")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(body: &str) -> Result<i64, String> {
        let mut fields = Fields::parse(body.as_bytes()).map_err(|error| error.message)?;
        let number = fields.integer("n", -10..=10, 7);
        fields.done().map(|()| number).map_err(|error| error.message)
    }

    #[test]
    fn numbers_are_read_as_shells_and_forms_write_them() {
        for (body, expected) in [
            (r#"{"n": 2}"#, 2),
            (r#"{"n": 2.0}"#, 2),
            (r#"{"n": "2"}"#, 2),
            (r#"{"n": " -3 "}"#, -3),
            (r#"{"n": "+4"}"#, 4),
            (r#"{"n": "5.0"}"#, 5),
            (r#"{"n": ""}"#, 7),
            (r#"{"n": null}"#, 7),
            ("{}", 7),
            ("\u{feff}{\"n\": 1}", 1),
        ] {
            assert_eq!(integer(body), Ok(expected), "{body}");
        }
        for wrong in [
            r#"{"n": "2.5"}"#,
            r#"{"n": "two"}"#,
            r#"{"n": "inf"}"#,
            r#"{"n": " "}"#,
            r#"{"n": true}"#,
            r#"{"n": [2]}"#,
        ] {
            assert_eq!(integer(wrong), Err("n must be an integer between -10 and 10".into()), "{wrong}");
        }
        assert_eq!(integer(r#"{"n": "11"}"#), Err("n must be between -10 and 10".into()));
    }

    #[test]
    fn factors_may_have_fractions_and_an_x() {
        let number = |body: &str| {
            let mut fields = Fields::parse(body.as_bytes()).expect("an object");
            let number = fields.number("n", 1.0..=16.0, 2.0);
            fields.done().map(|()| number).map_err(|error| error.message)
        };
        for (body, expected) in [
            (r#"{"n": 3.5}"#, 3.5),
            (r#"{"n": "4x"}"#, 4.0),
            (r#"{"n": " 1.5 "}"#, 1.5),
            (r#"{"n": ""}"#, 2.0),
            ("{}", 2.0),
        ] {
            assert_eq!(number(body), Ok(expected), "{body}");
        }
        for wrong in [r#"{"n": 0.5}"#, r#"{"n": "17"}"#, r#"{"n": "NaN"}"#, r#"{"n": "x"}"#, r#"{"n": true}"#] {
            assert_eq!(number(wrong), Err("n must be a number between 1 and 16".into()), "{wrong}");
        }
    }

    #[test]
    fn flags_are_read_as_shells_and_forms_write_them() {
        let flag = |text: &str| {
            let body = format!("{{\"f\": {text}}}");
            let mut fields = Fields::parse(body.as_bytes()).unwrap();
            let flag = fields.flag("f");
            fields.done().ok().map(|()| flag)
        };
        for (text, expected) in [
            ("true", Some(true)),
            ("\"true\"", Some(true)),
            ("\"True\"", Some(true)),
            ("1", Some(true)),
            ("\"1\"", Some(true)),
            ("\"0\"", Some(false)),
            ("false", Some(false)),
            ("\"\"", Some(false)),
            ("null", Some(false)),
            ("\"maybe\"", None),
            ("2", None),
            ("[]", None),
        ] {
            assert_eq!(flag(text), expected, "{text}");
        }
    }

    #[test]
    fn factors_are_read_as_clients_write_them() {
        let factor = |text: &str| {
            let body = format!("{{\"scale_factor\": {text}}}");
            let mut fields = Fields::parse(body.as_bytes()).unwrap();
            let factor = fields.scale_factor(|n| (2..=16).contains(&n), "must be an integer between 2 and 16");
            fields.done().map(|()| factor).map_err(|error| error.message)
        };
        for (text, expected) in [
            ("\"2x\"", 2),
            ("\"4X\"", 4),
            ("\" 8 \"", 8),
            ("16", 16),
            ("3.0", 3),
            ("\"3.0x\"", 3),
            ("null", 2),
            ("\"\"", 2),
        ] {
            assert_eq!(factor(text), Ok(expected), "{text}");
        }
        for text in ["1", "17", "2.5", "\"x\"", "\"2y\"", "-2", "true", "[2]", "1e99"] {
            assert_eq!(factor(text).unwrap_err(), "scale_factor must be an integer between 2 and 16", "{text}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_reported_at_once_with_the_first_hint() {
        let mut fields = Fields::parse(br#"{"a": 1, "b": "long", "c": "green", "d": null, "e": "x"}"#).unwrap();
        assert_eq!(fields.text("a", 3), None);
        assert_eq!(fields.text("b", 3), None);
        assert_eq!(fields.choice("c", &["red", "blue"], |name| name), None);
        assert_eq!(fields.text("d", 3), None, "null is as good as absent");
        assert_eq!(fields.text("e", 3).as_deref(), Some("x"));
        fields.reject_with("f", "is odd", Some("make it even"));
        fields.reject_with("g", "is odd", Some("another hint"));
        let error = fields.done().unwrap_err();
        let expected =
            "a must be a string; b must have at most 3 characters; c must be one of red, blue; f is odd; g is odd";
        assert_eq!((error.message.as_str(), error.hint.as_deref()), (expected, Some("make it even")));
    }

    #[test]
    fn what_is_not_json_is_called_by_its_name() {
        let multipart = b"--0123\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nx\r\n--0123--\r\n";
        let said = |body: &[u8]| Fields::parse(body).err().map(|error| (error.status.as_u16(), error.message)).unwrap();
        for (body, kind) in [
            (multipart.as_slice(), "multipart/form-data"),
            (b"image=https%3A%2F%2Fexample.com&scale_factor=2x", "a form"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a file"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a file"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"{\0}\0", "UTF-16"),
        ] {
            let (status, message) = said(body);
            assert!(status == 415 && message.contains(kind), "{status} {message}");
        }
        for body in [b"{\"image\": ".as_slice(), b"[]", b"", b"hello", b"{\"a\"=1}"] {
            assert_eq!(said(body).0, 400, "{}", String::from_utf8_lossy(body));
        }
    }
}
