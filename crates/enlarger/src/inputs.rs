//! From words on the command line to files to read and files to write.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use enlarger_image::Format;

use crate::printer::Hinted;

/// Where one picture comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file. The second path is the folder that was named on the command line, if it was found in one.
    File(PathBuf, Option<PathBuf>),
}

impl Input {
    /// How people are told of it.
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".into(),
            Self::File(path, _) => path.display().to_string(),
        }
    }
}

/// Extensions that a folder is searched for. Files named one by one are read whatever their name is.
const EXTENSIONS: [&str; 9] = ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "gif", "jfif"];

/// Expands folders and patterns, sorted by name. A word that matches nothing stays, so that its error names it.
pub fn expand(words: &[String], recursive: bool) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for word in words {
        let path = Path::new(word);
        if word == "-" {
            inputs.push(Input::Stdin);
        } else if path.is_dir() {
            let mut found = Vec::new();
            search(path, recursive, &mut found)?;
            if found.is_empty() {
                return Err(Hinted::error(
                    format!("{word}: the folder holds no picture that enlarger reads"),
                    if recursive { "name the files one by one" } else { "add --recursive to look into its folders" },
                ));
            }
            found.sort();
            inputs.extend(found.into_iter().map(|file| Input::File(file, Some(path.to_owned()))));
        } else if !path.exists() && word.contains(['*', '?', '[']) {
            // The shell has not expanded it: it was quoted, or the shell is Windows'.
            let before = inputs.len();
            for found in glob::glob(word).map_err(|e| Hinted::error(format!("{word}: {e}"), "check the pattern"))? {
                let found = found?;
                if found.is_file() {
                    inputs.push(Input::File(found, None));
                }
            }
            if inputs.len() == before {
                return Err(Hinted::error(format!("{word}: no file matches"), "check the pattern and the folder"));
            }
        } else {
            inputs.push(Input::File(path.to_owned(), None));
        }
    }
    Ok(inputs)
}

fn search(folder: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|e| {
        Hinted::error(format!("{}: the folder cannot be read: {e}", folder.display()), "check its permissions")
    })?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if recursive {
                search(&path, recursive, found)?;
            }
        } else if path.extension().and_then(OsStr::to_str).is_some_and(|e| EXTENSIONS.contains(&&*e.to_lowercase())) {
            found.push(path);
        }
    }
    Ok(())
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Beside each input.
    Beside,
    /// Standard output.
    Stdout,
    /// This file.
    File(PathBuf),
    /// Into this folder.
    Folder(PathBuf),
}

impl Target {
    /// Reads `-o` in the light of the inputs.
    pub fn of(output: Option<&str>, inputs: &[Input]) -> anyhow::Result<Self> {
        let several = inputs.len() > 1 || matches!(inputs, [Input::File(_, Some(_))]);
        Ok(match output {
            None if inputs == [Input::Stdin] => Self::Stdout,
            None if inputs.contains(&Input::Stdin) => {
                return Err(Hinted::error("standard input has no folder to write beside", "add -o FOLDER"));
            }
            None => Self::Beside,
            Some("-") if several => {
                return Err(Hinted::error("several pictures cannot share standard output", "add -o FOLDER"));
            }
            Some("-") => Self::Stdout,
            Some(path) if several || path.ends_with(['/', '\\']) || Path::new(path).is_dir() => {
                Self::Folder(path.into())
            }
            Some(path) if several && Path::new(path).is_file() => {
                return Err(Hinted::error(
                    format!("{path} is a file, and several pictures are to be made"),
                    "name a folder",
                ));
            }
            Some(path) => Self::File(path.into()),
        })
    }

    /// The format that the target's own name asks for.
    ///
    /// # Errors
    /// If the extension is none that can be written.
    pub fn format(&self) -> anyhow::Result<Option<Format>> {
        let Self::File(path) = self else { return Ok(None) };
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        match Format::from_extension(extension).filter(|f| f.can_encode()) {
            Some(format) => Ok(Some(format)),
            None => Err(Hinted::error(
                format!("{}: the name does not say a format that can be written", path.display()),
                "end it in .png, .jpg, .webp, .tif or .avif, or give --format; a folder's name ends in /",
            )),
        }
    }

    /// The path to write for an input, `None` for standard output. `suffix` is put behind the name, as in `_4x`.
    pub fn path(&self, input: &Input, suffix: &str, extension: &str) -> Option<PathBuf> {
        let name = |path: &Path| {
            let stem = path.file_stem().unwrap_or(OsStr::new("picture"));
            let mut name = stem.to_owned();
            name.push(format!("{suffix}.{extension}"));
            name
        };
        match (self, input) {
            (Self::Stdout, _) => None,
            (Self::File(path), _) => Some(path.clone()),
            (Self::Folder(folder), Input::Stdin) => Some(folder.join(format!("stdin{suffix}.{extension}"))),
            (Self::Folder(folder), Input::File(path, root)) => {
                let inside = root.as_ref().and_then(|root| path.strip_prefix(root).ok()).and_then(Path::parent);
                Some(folder.join(inside.unwrap_or(Path::new(""))).join(name(path)))
            }
            (Self::Beside, Input::File(path, _)) => Some(path.with_file_name(name(path))),
            (Self::Beside, Input::Stdin) => None,
        }
    }
}
