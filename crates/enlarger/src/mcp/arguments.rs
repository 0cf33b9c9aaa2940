//! The arguments of a tool. Each reader takes one out; what is left in the end is a mistake.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::printer::Hinted;

/// What a tool was called with.
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// `null` counts as absent.
    pub fn new(mut given: Map<String, Value>) -> Self {
        given.retain(|_, value| !value.is_null());
        Self(given)
    }

    /// Whether an argument is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text.
    pub fn text(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        self.read(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// A number within a range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> anyhow::Result<Option<f64>> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.read(name, &expected, |value| value.as_f64().filter(|number| range.contains(number)))
    }

    /// A whole number within a range.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> anyhow::Result<Option<i64>> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, &expected, |value| value.as_i64().filter(|number| range.contains(number)))
    }

    /// Yes or no.
    pub fn flag(&mut self, name: &str) -> anyhow::Result<bool> {
        Ok(self.read(name, "true or false", Value::as_bool)?.unwrap_or_default())
    }

    /// One of some choices, by its name.
    pub fn choice<T: Copy>(&mut self, arg: &str, all: &[T], name: fn(T) -> &'static str) -> anyhow::Result<Option<T>> {
        let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        self.read(arg, &format!("one of {}", names.join(", ")), |value| {
            all.iter().copied().find(|one| value.as_str() == Some(name(*one)))
        })
    }

    /// # Errors
    /// If an argument was not read.
    pub fn done(self, names: &[String]) -> anyhow::Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(Hinted::error(
                format!("there is no argument named {unknown:?}"),
                format!("the arguments are {}", names.join(", ")),
            )),
        }
    }

    fn read<T>(&mut self, name: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> anyhow::Result<Option<T>> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => {
                let value: String = value.to_string().chars().take(60).collect();
                Err(Hinted::error(format!("{name} is {value}, but must be {expected}"), "correct it, or leave it out"))
            }
        }
    }
}
