//! Result files: their names, and what they are called until they are complete.

use std::{
    ffi::{OsStr, OsString},
    fmt, fs, io,
    path::Path,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::Extent;

/// How result files are named: text with placeholders, such as `{stem}_{scale}x.{ext}`.
///
/// | placeholder | becomes |
/// |---|---|
/// | `{stem}` | the source's name without its extension; required |
/// | `{scale}` | the factor, with at most two decimals |
/// | `{width}`, `{height}` | the result's size in pixels |
/// | `{ext}` | the extension of the result's format; required at the end, after a dot |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Stem,
    Scale,
    Width,
    Height,
    Ext,
}

impl Value {
    const ALL: [Self; 5] = [Self::Stem, Self::Scale, Self::Width, Self::Height, Self::Ext];

    fn name(self) -> &'static str {
        match self {
            Self::Stem => "{stem}",
            Self::Scale => "{scale}",
            Self::Width => "{width}",
            Self::Height => "{height}",
            Self::Ext => "{ext}",
        }
    }
}

impl NamePattern {
    /// The pattern that is used unless another one is asked for.
    pub const DEFAULT: &str = "{stem}_{scale}x.{ext}";

    /// The name of a result. `stem` is taken as it is, and must be fit for a file name.
    pub fn fill(&self, stem: &OsStr, factor: f64, result: Extent, extension: &str) -> OsString {
        let mut name = OsString::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push(text),
                Piece::Value(Value::Stem) => name.push(stem),
                Piece::Value(Value::Scale) => name.push(format!("{}", (factor * 100.0).round() / 100.0)),
                Piece::Value(Value::Width) => name.push(result.width.to_string()),
                Piece::Value(Value::Height) => name.push(result.height.to_string()),
                Piece::Value(Value::Ext) => name.push(extension),
            }
        }
        name
    }
}

impl Default for NamePattern {
    fn default() -> Self {
        Self::DEFAULT.parse().expect("it is valid")
    }
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A colon would name a drive or a stream on Windows.
        if let Some(character) = text.chars().find(|c| matches!(c, '/' | '\\' | ':') || c.is_control()) {
            return Err(format!("a file name cannot contain {character:?}; to choose a folder, use -o or --save-to"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let end = rest[start..].find('}').map_or(rest.len(), |length| start + length + 1);
            let name = &rest[start..end];
            let value = Value::ALL.into_iter().find(|value| value.name() == name).ok_or_else(|| {
                let all = Value::ALL.map(Value::name).join(", ");
                format!("unknown placeholder {name}; available: {all}")
            })?;
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].to_owned()));
            }
            pieces.push(Piece::Value(value));
            rest = &rest[end..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        // Results must differ if their sources do, and say what they are.
        if !text.contains("{stem}") || !text.ends_with(".{ext}") {
            return Err(format!(
                "expected a name that contains {{stem}} and ends in .{{ext}}, such as {}",
                Self::DEFAULT
            ));
        }
        Ok(Self(pieces))
    }
}

impl TryFrom<String> for NamePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Value(value) => f.write_str(value.name()),
        })
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.to_string()
    }
}

/// The name with a number, for when the name itself is taken: `fox_4x-2.png`.
pub fn numbered(name: &OsStr, number: u32) -> OsString {
    let path = Path::new(name);
    let mut numbered = path.file_stem().unwrap_or(name).to_owned();
    numbered.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        numbered.push(".");
        numbered.push(extension);
    }
    numbered
}

const PREFIX: &str = ".enlarger-";
const SUFFIX: &str = ".tmp";

/// A file to be written in a folder, with a name that no result has. It is deleted unless it is persisted. Its mode is that of any
/// program's new file, as the person's umask has it; usual for temporary files is 0600. While it is open it is locked, which
/// tells it from the leftovers of a program that was killed.
///
/// # Errors
/// If it cannot be made.
pub fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(folder)?;
        // Some network drives have no locks.
        let locked = file.as_file().lock().is_ok();
        // Whoever cleans up may have come first.
        if !locked || file.path().try_exists()? {
            return Ok(file);
        }
    }
}

/// Removes temporary files that nobody is writing to any more: their program was killed. Whoever may not do so leaves them.
pub fn remove_leftovers(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
    for path in entries.filter(|entry| ours(&entry.file_name())).map(|entry| entry.path()) {
        // Opened to be written, as locks on some network drives require.
        let Ok(file) = fs::File::options().write(true).open(&path) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_results_and_says_what_is_wrong_with_it() {
        let fill = |pattern: &str, factor| {
            let size = Extent { width: 400, height: 300 };
            let pattern = pattern.parse::<NamePattern>().expect("valid");
            pattern.fill(OsStr::new("fox"), factor, size, "png").into_string().expect("text")
        };
        assert_eq!(fill(NamePattern::DEFAULT, 4.0), "fox_4x.png");
        assert_eq!(fill(NamePattern::DEFAULT, 2.604_166), "fox_2.6x.png");
        assert_eq!(fill("big {stem} {width}x{height}.{ext}", 4.0), "big fox 400x300.png");
        for (wrong, word) in [
            ("{stem}", "ends in .{ext}"),
            ("{stem}.png", "ends in .{ext}"),
            ("result.{ext}", "contains {stem}"),
            ("{steam}.{ext}", "unknown placeholder {steam}; available: {stem}"),
            ("{stem.{ext}", "unknown placeholder {stem.{ext}"),
            ("out/{stem}.{ext}", "cannot contain '/'"),
        ] {
            let said = wrong.parse::<NamePattern>().expect_err(wrong);
            assert!(said.contains(word), "{wrong}: {said}");
        }
        assert_eq!(NamePattern::default().to_string(), NamePattern::DEFAULT);
    }

    #[test]
    fn a_number_comes_before_the_extension() {
        assert_eq!(numbered(OsStr::new("fox_1.5x.png"), 2), "fox_1.5x-2.png");
    }

    #[test]
    fn what_a_killed_program_was_writing_is_removed_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let being_written = temporary_in(folder.path()).expect("made");
        let kept = [".enlarger-watch.jsonl", "fox.tmp", ".enlarger-fox.png"];
        for name in kept.iter().chain(&[".enlarger-abc123.tmp"]) {
            fs::write(folder.path().join(name), "x").expect("written");
        }
        remove_leftovers(folder.path());
        remove_leftovers(&folder.path().join("missing"));
        let mut left: Vec<_> = fs::read_dir(folder.path()).expect("read").map(|e| e.expect("read").path()).collect();
        left.sort();
        let mut expected: Vec<_> = kept.iter().map(|name| folder.path().join(name)).collect();
        expected.push(being_written.path().to_owned());
        expected.sort();
        assert_eq!(left, expected);
    }
}
