//! What every error of enlarger can tell besides its sentence: a code for programs and a hint for people.
//!
//! Each crate keeps an error type of its own and implements [`Explained`] for it. Whoever shows errors needs nothing else: the
//! command line prints sentence and hint, the server sends sentence, hint and codes.
//!
//! ```
//! use std::{borrow::Cow, fmt};
//!
//! use enlarger_error::Explained;
//!
//! #[derive(Debug)]
//! struct TooWide;
//!
//! impl fmt::Display for TooWide {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         f.write_str("the image is too wide")
//!     }
//! }
//!
//! impl std::error::Error for TooWide {}
//!
//! impl Explained for TooWide {
//!     fn code(&self) -> &'static str {
//!         "too_wide"
//!     }
//!
//!     fn hint(&self) -> Option<Cow<'_, str>> {
//!         Some("cut it in two".into())
//!     }
//! }
//!
//! let error: &dyn Explained = &TooWide;
//! assert_eq!(error.to_string(), "the image is too wide");
//! assert_eq!(error.hint().as_deref(), Some("cut it in two"));
//! assert_eq!(error.exact_code(), "too_wide");
//! ```

use std::{borrow::Cow, error::Error};

/// An error that says what to do about it. Its `Display` is one sentence: what and why, without the hint.
pub trait Explained: Error {
    /// A name for programs in snake case, stable over releases. An error that passes on another's names its family.
    fn code(&self) -> &'static str;

    /// What a person can do about it.
    fn hint(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// The error that this one passes on.
    fn inner(&self) -> Option<&dyn Explained> {
        None
    }

    /// The code of the innermost cause.
    fn exact_code(&self) -> &'static str {
        self.inner().map_or_else(|| self.code(), Explained::exact_code)
    }
}

/// A name from a file or of one, without control characters, which a terminal might obey.
pub fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A name from a file, as it may stand in a sentence: [`printable`], at most 80 characters.
pub fn shortened(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => printable(&name[..end]) + "…",
        None => printable(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_files_are_short_and_printable() {
        assert_eq!(shortened("conv.\n\u{1b}[31mweight"), "conv.??[31mweight");
        assert_eq!(shortened(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(shortened(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
    }
}
