//! Where results go, and what they are called.

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Component, Path, PathBuf, is_separator},
};

use enlarger_image::Format;
use enlarger_pipeline::{Extent, NamePattern};

use crate::{
    inputs::{Input, Inputs, Source},
    paths::{parent, real},
    printer::Hinted,
};

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
    ///
    /// # Errors
    /// With exit code 2, if both do not go together.
    pub fn of(output: Option<&OsStr>, inputs: &Inputs) -> anyhow::Result<Self> {
        let several = inputs.searched || inputs.list.len() > 1;
        let Some(output) = output else {
            return match inputs.list.contains(&Input::Stdin) {
                true if several => {
                    Err(Hinted::usage("an image from standard input has no folder for its result", "add -o FOLDER"))
                }
                true => Ok(Self::Stdout),
                false => Ok(Self::Beside),
            };
        };
        if output.is_empty() {
            return Err(Hinted::usage("-o is empty", "specify a file or folder, or omit -o"));
        }
        if output == "-" {
            return match several {
                true => Err(Hinted::usage("several images cannot all go to standard output", "add -o FOLDER")),
                false => Ok(Self::Stdout),
            };
        }
        let path = without_detours(Path::new(output));
        if path.is_dir() || output.as_encoded_bytes().last().is_some_and(|&last| is_separator(last.into())) {
            return Ok(Self::Folder(path));
        }
        if several && (path.is_file() || known_extension(&path).is_some()) {
            let shown = path.display();
            return Err(Hinted::usage(
                format!("several images need an output folder, but -o {shown} is a file"),
                format!("use a folder, such as -o {}/", path.with_extension("").display()),
            ));
        }
        Ok(if several { Self::Folder(path) } else { Self::File(path) })
    }

    /// The format to write: what was asked for, else what the target's own name says, else PNG.
    ///
    /// # Errors
    /// With exit code 2, if the name's extension is of another format than was asked for, or of none that can be written.
    pub fn format(&self, asked: Option<Format>) -> anyhow::Result<Format> {
        let Self::File(path) = self else { return Ok(asked.unwrap_or_default()) };
        let shown = path.display();
        match (asked, known_extension(path)) {
            (Some(asked), Some(named)) if asked != named => Err(Hinted::usage(
                format!("--format is {}, but {shown} has the extension of {}", asked.name(), named.name()),
                format!("omit --format, or use the extension .{}", asked.extension()),
            )),
            (Some(asked), _) => Ok(asked),
            (None, Some(named)) if named.can_encode() => Ok(named),
            (None, Some(named)) => Err(Hinted::usage(
                format!("{shown}: enlarger cannot write {}", named.name()),
                "use the extension .png, .jpg, .webp, .tif or .avif",
            )),
            (None, None) => Err(Hinted::usage(
                format!("{shown}: unknown output format"),
                "use the extension .png, .jpg, .webp, .tif or .avif, or add --format; a folder's name must end in /",
            )),
        }
    }

    /// The folder of a file's result.
    pub fn folder(&self, source: &Source) -> PathBuf {
        match self {
            Self::Folder(folder) => {
                let inside = source.root.as_ref().and_then(|root| source.path.strip_prefix(root).ok());
                folder.join(inside.and_then(Path::parent).unwrap_or(Path::new("")))
            }
            Self::File(file) => parent(file).to_owned(),
            Self::Beside | Self::Stdout => source.path.parent().unwrap_or(Path::new("")).to_owned(),
        }
    }
}

fn known_extension(path: &Path) -> Option<Format> {
    path.extension().and_then(OsStr::to_str).and_then(Format::from_extension)
}

/// The path without `missing/..`. A folder that is missing will be made, and then the path would lead to what is there already:
/// better to look at that now. Where there is something, `..` stays: what it means behind a link is for the system to say.
fn without_detours(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        let missing = matches!(plain.components().next_back(), Some(Component::Normal(_))) && absent(&plain);
        if part == Component::ParentDir && missing {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    if plain.as_os_str().is_empty() { ".".into() } else { plain }
}

fn absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Identifies a file, by whatever name, link or hard link it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileId(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] PathBuf);

impl FileId {
    /// Of the file that is there; none if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            path.metadata().ok().map(|file| Self((file.dev(), file.ino())))
        }
        #[cfg(not(unix))]
        {
            path.canonicalize().ok().map(Self)
        }
    }
}

/// Names of results: `fox_4x.png` of `fox.jpg`, but `fox.jpg_4x.png` if another image of the batch, such as `fox.png`, would
/// have the same name. All of these then keep their extensions, so that a result's name depends on no order, and a
/// result is never taken for that of an image which came later.
pub struct Names<'a> {
    target: &'a Target,
    pattern: &'a NamePattern,
    extension: &'static str,
    /// How many images of the batch, by folder of their results, have this as a stem or as a whole name.
    taken: HashMap<(PathBuf, String), usize>,
}

impl<'a> Names<'a> {
    /// For results of these inputs in this format.
    pub fn new(target: &'a Target, pattern: &'a NamePattern, inputs: &[Input], format: Format) -> Self {
        let mut taken = HashMap::new();
        for source in inputs.iter().filter_map(Input::source) {
            let folder = target.folder(source);
            for name in [source.path.file_stem(), source.path.file_name()].into_iter().flatten() {
                *taken.entry((real(&folder), folded(name))).or_default() += 1;
            }
        }
        Self { target, pattern, extension: format.extension(), taken }
    }

    /// The file to write for an input, with a result of this size; none is standard output.
    pub fn of(&self, input: &Input, factor: f64, result: Extent) -> Option<PathBuf> {
        let named = |stem: &OsStr| self.pattern.fill(stem, factor, result, self.extension);
        let source = match (self.target, input) {
            (Target::Stdout, _) | (Target::Beside, Input::Stdin) => return None,
            (Target::File(path), _) => return Some(path.clone()),
            (Target::Folder(folder), Input::Stdin) => return Some(folder.join(named(OsStr::new("stdin")))),
            (_, Input::File(source)) => source,
        };
        let folder = self.target.folder(source);
        let whole = source.path.file_name().unwrap_or(OsStr::new("image"));
        let stem = source.path.file_stem().unwrap_or(whole);
        // A name without an extension is its own stem and counts twice.
        let own = if stem == whole { 2 } else { 1 };
        let shared = self.taken.get(&(real(&folder), folded(stem))).is_some_and(|&count| count > own);
        Some(folder.join(named(if shared { whole } else { stem })))
    }
}

/// Names that differ in case only are one file on many disks.
fn folded(name: &OsStr) -> String {
    name.to_string_lossy().to_lowercase()
}

/// The part of a result's name that comes from its source's, if it has the default pattern: `fox` of `fox_4x.png`, `fox.jpg` of
/// `fox.jpg_1.5x.webp`.
pub fn source_name(result: &Path) -> Option<&[u8]> {
    known_extension(result).filter(|format| format.can_encode())?;
    let stem = result.file_stem()?.as_encoded_bytes().strip_suffix(b"x")?;
    let at = stem.iter().rposition(|&byte| byte == b'_')?;
    let digits = std::str::from_utf8(&stem[at + 1..]).ok()?;
    let factor = digits.parse::<f64>().ok().filter(|factor| (1.0..=16.0).contains(factor))?;
    // As it would be written: no `01`, no `1e1`.
    (format!("{factor}") == digits).then_some(&stem[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str]) -> Vec<String> {
        let file = |path: &&str| Input::File(Source { path: path.into(), root: None, named: true });
        let inputs: Vec<Input> = files.iter().map(file).collect();
        let (pattern, size) = (NamePattern::default(), Extent { width: 400, height: 300 });
        let names = Names::new(&Target::Beside, &pattern, &inputs, Format::Png);
        inputs.iter().map(|input| names.of(input, 4.0, size).expect("a file").display().to_string()).collect()
    }

    #[test]
    fn every_image_of_a_batch_has_a_result_of_its_own() {
        assert_eq!(names(&["a.jpg", "b.jpg"]), ["a_4x.png", "b_4x.png"]);
        assert_eq!(names(&["a.jpg", "a.png"]), ["a.jpg_4x.png", "a.png_4x.png"]);
        assert_eq!(names(&["a.jpg", "A.png"]), ["a.jpg_4x.png", "A.png_4x.png"]);
        assert_eq!(names(&["x/a.jpg", "y/a.png"]), ["x/a_4x.png", "y/a_4x.png"]);
        assert_eq!(names(&["a", "b.jpg"]), ["a_4x.png", "b_4x.png"]);
        // The whole name of one is the stem of another.
        assert_eq!(names(&["a.jpg", "a.png", "a.jpg.png"]), ["a.jpg_4x.png", "a.png_4x.png", "a.jpg.png_4x.png"]);
        assert_eq!(names(&["a", "a.png"]), ["a_4x.png", "a.png_4x.png"]);
    }

    #[test]
    fn what_is_missing_is_no_way_round_to_what_is_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("sub/deep")).expect("made");
        for (path, plain) in [
            ("nope/../v.png", "v.png"),
            ("nope/./more/../../v.png", "v.png"),
            ("sub/nope/../../v.png", "sub/../v.png"),
            ("sub/../v.png", "sub/../v.png"),
            ("sub/deep/nope/../v.png", "sub/deep/v.png"),
            ("nope/v.png", "nope/v.png"),
        ] {
            assert_eq!(without_detours(&at(path)), at(plain), "{path}");
        }
        assert_eq!(without_detours(Path::new("no-such-folder/..")), Path::new("."));
        assert_eq!(without_detours(Path::new("../../no-such-folder/../..")), Path::new("../../.."));
    }

    #[test]
    fn results_are_known_by_their_names() {
        let source = |name: &str| source_name(Path::new(name)).map(|s| String::from_utf8_lossy(s).into_owned());
        for (name, expected) in
            [("fox_4x.png", "fox"), ("a/fox.jpg_1.5x.webp", "fox.jpg"), ("f_2x_16x.avif", "f_2x"), ("_2x.tif", "")]
        {
            assert_eq!(source(name).as_deref(), Some(expected), "{name}");
        }
        for name in
            ["fox.png", "fox_4x.gif", "fox_4x", "fox_0x.png", "fox_32x.png", "fox_04x.png", "fox_x.png", "4x.png"]
        {
            assert_eq!(source(name), None, "{name}");
        }
    }
}
