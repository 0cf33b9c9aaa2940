//! Reading a JSON object liberally, and finding all that is wrong with it at once.

use std::{collections::HashMap, ops::RangeInclusive};

use serde_json::{Value, value::RawValue};

use crate::error::{ApiError, ApiResult, InvalidParam};

/// The fields of a body. Unknown ones are ignored, `null` is as good as absent. Every reader returns a usable value and
/// notes what was wrong; [`Fields::done`] tells.
pub(crate) struct Fields<'a> {
    raw: HashMap<String, &'a RawValue>,
    invalid: Vec<InvalidParam>,
    hint: Option<String>,
}

impl<'a> Fields<'a> {
    /// # Errors
    /// If the bytes are no JSON object.
    pub fn parse(body: &'a [u8]) -> ApiResult<Self> {
        let raw: HashMap<String, &RawValue> = serde_json::from_slice(body).map_err(|error| {
            let message = match error.classify() {
                serde_json::error::Category::Data => "the body must be a JSON object".to_owned(),
                _ => format!("the body is not valid JSON (line {}, column {})", error.line(), error.column()),
            };
            ApiError::bad_request("invalid_json", message)
        })?;
        Ok(Self { raw, invalid: Vec::new(), hint: None })
    }

    /// Notes that a field cannot be accepted.
    pub fn reject(&mut self, name: &str, reason: impl Into<String>) {
        self.invalid.push(InvalidParam { name: name.into(), reason: reason.into() });
    }

    /// The same, with what to do about it. Of several hints the first is told.
    pub fn reject_with(&mut self, name: &str, reason: impl Into<String>, hint: Option<impl Into<String>>) {
        self.reject(name, reason);
        self.hint = self.hint.take().or(hint.map(Into::into));
    }

    /// # Errors
    /// All that was wrong.
    pub fn done(&mut self) -> ApiResult<()> {
        if self.invalid.is_empty() {
            return Ok(());
        }
        Err(ApiError { hint: self.hint.take(), ..ApiError::invalid(std::mem::take(&mut self.invalid)) })
    }

    /// A field's text, quotes and all; for values too large to be copied.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.raw.get(name).map(|raw| raw.get()).filter(|text| *text != "null")
    }

    /// A field's value.
    pub fn value(&self, name: &str) -> Option<Value> {
        // What was parsed as raw JSON can still be too deep or out of range as a value.
        self.raw(name).map(|text| serde_json::from_str(text).unwrap_or(Value::String(String::new())))
    }

    /// A whole number; 5.0 is one.
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

    /// A text of at most so many characters.
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

    /// Yes or no.
    pub fn flag(&mut self, name: &str) -> bool {
        match self.value(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
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
            Value::String(text) => {
                let digits = text.trim().trim_end_matches(['x', 'X']);
                digits.parse::<f64>().ok().and_then(|number| whole(&Value::from(number)))
            }
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
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
    })
}
