//! From words on the command line to files to read.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::{
    paths::{parent, real},
    printer::{Hinted, reason},
    search::{Findings, Reason, search},
};

/// Where one picture comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(Source),
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The folder that was named on the command line, if it was found in one.
    pub root: Option<PathBuf>,
    /// Whether it was named itself, and not found in a folder or by a pattern.
    pub named: bool,
}

impl Input {
    /// Its name in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".into(),
            Self::File(source) => source.path.display().to_string(),
        }
    }

    /// The file, if it is one.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Stdin => None,
            Self::File(source) => Some(source),
        }
    }
}

/// The inputs that the arguments lead to.
#[derive(Debug, Default)]
pub struct Inputs {
    /// To be enlarged, each once.
    pub list: Vec<Input>,
    /// Images that are left alone.
    pub passed_over: Vec<(PathBuf, Reason)>,
    /// Arguments that lead nowhere and folders that cannot be read, with their errors.
    pub failed: Vec<(String, anyhow::Error)>,
    /// Whether a folder or a pattern was searched, so that there may be any number of images.
    pub searched: bool,
}

impl Inputs {
    /// Expands folders and patterns. What each yields is sorted by name.
    pub fn expand(words: &[OsString], recursive: bool) -> Self {
        let mut inputs = Self::default();
        for word in words {
            let path = Path::new(word);
            if word == "-" {
                inputs.list.push(Input::Stdin);
            } else if path.is_dir() {
                inputs.add_folder(path, recursive);
            } else if let Some(pattern) = word.to_str().filter(|word| !path.exists() && word.contains(['*', '?', '[']))
            {
                // The shell has not expanded it: it was quoted, or this is Windows.
                if let Err(error) = inputs.add_matches(pattern) {
                    inputs.failed.push((pattern.to_owned(), error));
                }
            } else {
                inputs.add(Source { path: path.to_owned(), root: None, named: true });
            }
        }
        inputs.drop_repeats();
        inputs
    }

    fn add(&mut self, source: Source) {
        self.list.push(Input::File(source));
    }

    fn add_folder(&mut self, folder: &Path, recursive: bool) {
        self.searched = true;
        let findings = search(folder, recursive);
        if findings.images.is_empty() && findings.unreadable.is_empty() {
            self.failed.push((folder.display().to_string(), nothing_in(&findings)));
        }
        for path in findings.images {
            self.add(Source { path, root: Some(folder.to_owned()), named: false });
        }
        self.passed_over.extend(findings.passed_over);
        self.failed.extend(findings.unreadable.into_iter().map(|(folder, error)| {
            let what = format!("cannot read this folder: {}", reason(&error));
            (folder.display().to_string(), Hinted::error(what, "check its permissions"))
        }));
    }

    fn add_matches(&mut self, pattern: &str) -> anyhow::Result<()> {
        self.searched = true;
        let before = self.list.len();
        for found in glob::glob(pattern)
            .map_err(|e| Hinted::error(format!("not a valid pattern: {e}"), "check the wildcards, or quote the name"))?
        {
            let path = found?;
            if path.is_file() {
                self.add(Source { path, root: None, named: false });
            }
        }
        if self.list.len() == before {
            return Err(Hinted::error("no file matches", "check the pattern and the folder"));
        }
        Ok(())
    }

    /// A file that was both found and named counts as named.
    fn drop_repeats(&mut self) {
        let key =
            |input: &Input| input.source().map(|s| (real(parent(&s.path)), s.path.file_name().map(OsStr::to_owned)));
        let is_named = |input: &&Input| input.source().is_some_and(|source| source.named);
        let named: HashSet<_> = self.list.iter().filter(is_named).map(key).collect();
        let mut seen = HashSet::new();
        self.list.retain_mut(|input| {
            let key = key(input);
            if let Input::File(source) = input {
                source.named |= named.contains(&key);
            }
            seen.insert(key)
        });
    }

    /// What was skipped, in lines for people.
    pub fn passed_over_lines(&self) -> Vec<String> {
        let of = |wanted: fn(&Reason) -> bool| -> Vec<&(PathBuf, Reason)> {
            self.passed_over.iter().filter(|(_, reason)| wanted(reason)).collect()
        };
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let name = |path: &Path| path.display().to_string();
        let mut lines = Vec::new();
        let made = "already enlarged by enlarger";
        for (results, one, several) in [
            (of(|reason| *reason == Reason::Result), made, made),
            (
                of(|reason| *reason == Reason::NamedAsResult),
                "its name looks like an enlarger result",
                "whose names look like enlarger results",
            ),
        ] {
            match results[..] {
                [] => {}
                [(path, _)] => {
                    lines.push(format!("skipped {}: {one}; to enlarge it anyway, pass its path", name(path)));
                }
                ref many => lines.push(format!(
                    "skipped {} {several}; to enlarge one anyway, pass its path",
                    count(many.len(), "image")
                )),
            }
        }
        let mut formats = BTreeMap::<&str, usize>::new();
        for (_, reason) in &self.passed_over {
            if let Reason::Format(format) = reason {
                *formats.entry(format).or_default() += 1;
            }
        }
        if !formats.is_empty() {
            let what: Vec<String> = formats.iter().map(|(format, n)| format!("{n} {format}")).collect();
            let (all, be) = (formats.values().sum(), if formats.values().sum::<usize>() == 1 { "it" } else { "them" });
            lines.push(format!(
                "skipped {} in unsupported formats ({}); convert {be} to PNG, JPEG, WebP or TIFF first",
                count(all, "image"),
                what.join(", ")
            ));
        }
        for (path, reason) in &self.passed_over {
            if let Reason::NotAFile(what) = reason {
                lines.push(format!("skipped {}: {what}, not a file", name(path)));
            }
        }
        match of(|reason| *reason == Reason::Hidden).len() {
            0 => {}
            n => lines.push(format!("skipped {}", count(n, "hidden file"))),
        }
        lines
    }
}

/// The error for a folder without images to enlarge.
fn nothing_in(findings: &Findings) -> anyhow::Error {
    let hint = match (&findings.passed_over[..], findings.folders_left) {
        ([], true) => "add --recursive to include its subfolders",
        ([], false) => "enlarger reads PNG, JPEG, WebP, TIFF, BMP and GIF",
        _ if findings.passed_over.iter().any(|(_, reason)| matches!(reason, Reason::Format(_))) => {
            "convert its images to PNG, JPEG, WebP or TIFF first"
        }
        _ => "pass the paths of the files themselves",
    };
    Hinted::error("the folder contains no supported images", hint)
}
