//! The arguments of a tool.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::printer::Hinted;

/// What a tool was called with.
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// `null` counts as absent.
    ///
    /// # Errors
    /// If there is one that the tool does not take.
    pub fn new(mut given: Map<String, Value>, taken: &Map<String, Value>) -> anyhow::Result<Self> {
        if let Some(unknown) = given.keys().find(|name| !taken.contains_key(*name)) {
            let names: Vec<&str> = taken.keys().map(String::as_str).collect();
            let hint = match names.is_empty() {
                true => "it takes no arguments".to_owned(),
                false => format!("the arguments are {}", names.join(", ")),
            };
            return Err(Hinted::error(format!("there is no argument named {unknown:?}"), hint));
        }
        given.retain(|_, value| !value.is_null());
        Ok(Self(given))
    }

    /// Whether an argument is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text.
    pub fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        self.read(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// A number within a range.
    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> anyhow::Result<Option<f64>> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.read(name, &expected, |value| value.as_f64().filter(|number| range.contains(number)))
    }

    /// A whole number within a range.
    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> anyhow::Result<Option<i64>> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, &expected, |value| value.as_i64().filter(|number| range.contains(number)))
    }

    /// Yes or no.
    pub fn flag(&self, name: &str) -> anyhow::Result<bool> {
        Ok(self.read(name, "true or false", Value::as_bool)?.unwrap_or_default())
    }

    /// One of some choices, by its name.
    pub fn choice<T: Copy>(&self, arg: &str, all: &[T], name: fn(T) -> &'static str) -> anyhow::Result<Option<T>> {
        let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        self.read(arg, &format!("one of {}", names.join(", ")), |value| {
            all.iter().copied().find(|one| value.as_str() == Some(name(*one)))
        })
    }

    fn read<T>(&self, name: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> anyhow::Result<Option<T>> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => {
                let value: String = value.to_string().chars().take(60).collect();
                Err(Hinted::error(format!("{name} is {value}, but must be {expected}"), "correct it, or leave it out"))
            }
        }
    }
}
