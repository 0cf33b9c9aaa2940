//! The available networks: those inside the binary, and those a person added.
//!
//! Each is a safetensors file and an entry with its source, license and SHA-256. The bundled ones are described in
//! `models/manifest.toml` and made by `make models`; added ones lie in a folder as `NAME.safetensors` and `NAME.toml`.
//!
//! ```
//! use enlarger_models::{Catalogue, ModelError};
//! use enlarger_nn::{Backend, Network};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // No folder: only what is bundled.
//! let catalogue = Catalogue::open(None)?;
//! assert!(catalogue.list().iter().all(|model| model.bundled));
//!
//! let model = catalogue.get("animevideo-v3")?;
//! let (architecture, weights) = catalogue.load(&model.name)?;
//! let network = Network::build(architecture, &weights, &*Backend::default().find()?)?;
//! assert_eq!(network.scale(), model.scale);
//!
//! let Err(ModelError::Unknown { near, .. }) = catalogue.get("animevideo") else { panic!("there is none") };
//! assert!(near.contains(&"animevideo-v3".to_owned()));
//! # Ok(())
//! # }
//! ```
//!
//! [`Catalogue::add`] takes a file of any format that [`enlarger_nn::weights`] reads, builds the network once, and stores it as
//! safetensors. Nothing of a catalogue is held in memory: each call reads the folder anew.

mod bundled;
mod error;
mod library;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use enlarger_diffusion::{family::recognise, file::Safetensors};
use enlarger_nn::{Architecture, Backend, Network, NnError, StateDict, arch::detect, weights};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use error::{ModelError, near};
pub use library::{Found, Library, What};

/// What is known about a network. The manifest's entries have the same fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name that `--model` takes: lower case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// What it was made for.
    pub kind: Kind,
    /// The architecture in words, with its sizes.
    pub architecture: String,
    /// How many times as wide and high its result is.
    pub scale: u32,
    /// Values in all arrays.
    pub parameters: u64,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// SPDX expression, or "unknown" for added files.
    #[serde(alias = "licence")]
    pub license: String,
    /// Whose work it is.
    pub copyright: String,
    /// The package or file it was made from.
    pub source: String,
    /// Where its authors publish it.
    pub upstream: String,
    /// One sentence.
    pub good_at: String,
    /// Whether it is inside the binary.
    #[serde(default)]
    pub bundled: bool,
}

/// What a network was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Photographs with noise, blur or compression.
    Photo,
    /// Photographs without visible damage.
    CleanPhoto,
    /// Drawings.
    Art,
    /// Speed.
    Fast,
    /// Whatever the person who added it knows.
    Added,
}

/// All available networks. Opening it reads no weights.
#[derive(Debug, Clone)]
pub struct Catalogue {
    folder: Option<PathBuf>,
}

impl Catalogue {
    /// The bundled networks, and those in `folder` if there is one. The folder need not exist.
    ///
    /// # Errors
    /// If the folder is a file.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, ModelError> {
        match folder {
            Some(path) if path.exists() && !path.is_dir() => Err(ModelError::Folder(path)),
            folder => Ok(Self { folder }),
        }
    }

    /// All networks: the bundled ones first, then the added ones by name. Damaged entries of the folder are left out
    /// here and reported by [`Catalogue::verify`].
    pub fn list(&self) -> Vec<ModelInfo> {
        let mut all = bundled::manifest().to_vec();
        all.extend(self.added().into_iter().flatten());
        all
    }

    /// One network's entry.
    ///
    /// # Errors
    /// [`ModelError::Unknown`] with the names that come near.
    pub fn get(&self, name: &str) -> Result<ModelInfo, ModelError> {
        let all = self.list();
        match all.iter().find(|m| m.name == name) {
            Some(model) => Ok(model.clone()),
            None => Err(ModelError::unknown(name, all.into_iter().map(|m| m.name))),
        }
    }

    /// Reads a network's weights.
    ///
    /// # Errors
    /// If it is unknown, or its file is damaged.
    pub fn load(&self, name: &str) -> Result<(Box<dyn Architecture>, StateDict), ModelError> {
        let model = self.get(name)?;
        let damaged = |why| ModelError::Damaged { name: name.to_owned(), why };
        let dict = if model.bundled {
            weights::safetensors::read(bundled::bytes(name).ok_or_else(|| {
                damaged(
                    "it is missing from the \
                binary"
                        .into(),
                )
            })?)
        } else {
            weights::read(&self.file(name, "safetensors")?)
        };
        dict.and_then(detect).map_err(|e| damaged(e.to_string()))
    }

    /// Adds a network from a safetensors file, a `.pth`, or an ncnn pair (either file). It is read and checked, and
    /// stored as safetensors.
    ///
    /// # Errors
    /// If there is no folder, the file is not a supported network, or the name is taken.
    pub fn add(&self, path: &Path, name: Option<&str>) -> Result<ModelInfo, ModelError> {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("model");
        let name = sanitised(name.unwrap_or(stem));
        if let Some(taken) = self.list().iter().find(|m| m.name == name) {
            return Err(ModelError::Taken { name, bundled: taken.bundled });
        }
        let unreadable = |why: NnError| ModelError::Unreadable { path: path.to_owned(), why: why.to_string() };
        // Told from its header, before gigabytes are read.
        if let Ok(kind) = Safetensors::open(path).and_then(|file| recognise(&file)) {
            let why = format!("it is for the generative engine ({kind}), which reads such files where they are");
            return Err(ModelError::Unreadable { path: path.to_owned(), why });
        }
        let (architecture, dict) = weights::read(path).and_then(detect).map_err(unreadable)?;
        // Building it once finds what loading alone does not: missing layers, shapes that do not fit.
        let (kind, scale) = (architecture.to_string(), architecture.scale());
        let portable = Backend { device: Some("portable".into()), ..Backend::default() }.find().map_err(unreadable)?;
        Network::build(architecture, &dict, &*portable).map_err(unreadable)?;
        let file = weights::safetensors::write(&dict).map_err(unreadable)?;
        let model = ModelInfo {
            title: stem.to_owned(),
            kind: Kind::Added,
            architecture: kind,
            scale,
            parameters: dict.0.values().map(|t| t.data.len() as u64).sum(),
            bytes: file.len() as u64,
            sha256: hash(&file),
            license: "unknown".into(),
            copyright: "unknown".into(),
            source: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            upstream: String::new(),
            good_at: "added by you".into(),
            bundled: false,
            name,
        };
        let entry = toml::to_string(&model).map_err(|e| ModelError::Store(e.to_string()))?;
        // The entry comes last: a network is listed only when its weights are whole.
        self.store(&model.name, "safetensors", &file)?;
        self.store(&model.name, "toml", entry.as_bytes())?;
        Ok(model)
    }

    /// Removes an added network.
    ///
    /// # Errors
    /// If it is unknown or bundled.
    pub fn remove(&self, name: &str) -> Result<(), ModelError> {
        if self.get(name)?.bundled {
            return Err(ModelError::Bundled(name.to_owned()));
        }
        for extension in ["toml", "safetensors"] {
            let path = self.file(name, extension)?;
            std::fs::remove_file(&path).map_err(|e| ModelError::Store(format!("{}: {e}", path.display())))?;
        }
        Ok(())
    }

    /// Compares every network's bytes with its SHA-256, and reads every entry of the folder.
    pub fn verify(&self) -> Vec<(String, Result<(), ModelError>)> {
        let bundled = bundled::manifest().iter().map(|m| {
            let found = bundled::bytes(&m.name).map(hash);
            (m.name.clone(), same(&m.name, &m.sha256, found.as_deref()))
        });
        let added = self.added().into_iter().map(|entry| match entry {
            Ok(m) => {
                let found =
                    self.file(&m.name, "safetensors").ok().and_then(|f| std::fs::read(f).ok()).map(|b| hash(&b));
                (m.name.clone(), same(&m.name, &m.sha256, found.as_deref()))
            }
            Err(error) => (error.model().unwrap_or_default().to_owned(), Err(error)),
        });
        bundled.chain(added).collect()
    }

    /// The entries of the folder, by name.
    fn added(&self) -> Vec<Result<ModelInfo, ModelError>> {
        let Some(entries) = self.folder.as_ref().and_then(|f| std::fs::read_dir(f).ok()) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "toml"));
        paths.sort();
        paths
            .iter()
            .map(|path| {
                let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
                let damaged = |why: String| ModelError::Damaged { name: name.clone(), why };
                let text = std::fs::read_to_string(path).map_err(|e| damaged(e.to_string()))?;
                let model: ModelInfo = toml::from_str(&text).map_err(|e| damaged(e.message().to_owned()))?;
                // The entry must not speak of another file than its own, nor pass for a bundled network.
                if model.name != name || bundled::bytes(&name).is_some() {
                    return Err(damaged("its entry and its file have different names".into()));
                }
                Ok(ModelInfo { bundled: false, ..model })
            })
            .collect()
    }

    fn file(&self, name: &str, extension: &str) -> Result<PathBuf, ModelError> {
        let folder = self.folder.as_ref().ok_or(ModelError::NoFolder)?;
        Ok(folder.join(format!("{name}.{extension}")))
    }

    /// Writes through a temporary file, so that nobody reads half a network.
    fn store(&self, name: &str, extension: &str, bytes: &[u8]) -> Result<(), ModelError> {
        let path = self.file(name, extension)?;
        let folder = self.folder.as_ref().ok_or(ModelError::NoFolder)?;
        let write = || {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(|e: std::io::Error| ModelError::Store(format!("{}: {e}", path.display())))
    }
}

fn same(name: &str, expected: &str, found: Option<&str>) -> Result<(), ModelError> {
    let why = match found {
        Some(found) if found == expected => return Ok(()),
        Some(found) => format!("its SHA-256 is {found}, expected {expected}"),
        None => "its weights are missing".into(),
    };
    Err(ModelError::Damaged { name: name.to_owned(), why })
}

/// SHA-256 in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A name that is safe as a file's, whatever was given.
fn sanitised(name: &str) -> String {
    let safe: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(80)
        .collect();
    let trimmed = safe.trim_matches(['.', '-']);
    if trimmed.is_empty() { "model".into() } else { trimmed.into() }
}

#[cfg(test)]
mod tests {
    use enlarger_error::Explained;

    use super::*;

    #[test]
    fn names_are_safe_as_those_of_files() {
        for (given, name) in [
            ("4x_Model v1.2", "4x_model-v1.2"),
            ("../../etc/passwd", "etc-passwd"),
            (".hidden.", "hidden"),
            ("C:\\Modelle\\Groß", "c--modelle-gro"),
            ("---", "model"),
            ("", "model"),
        ] {
            assert_eq!(sanitised(given), name);
        }
        assert_eq!(sanitised(&"x".repeat(1000)).len(), 80);
    }

    #[test]
    fn a_name_that_nobody_knows_brings_those_that_come_near() {
        let names = || ["photo-2x", "x4plus", "x4plus-anime-6b"].map(String::from).into_iter();
        let near = |name: &str| match ModelError::unknown(name, names()) {
            ModelError::Unknown { near, .. } => near,
            other => panic!("{other}"),
        };
        assert_eq!(near("x4pus"), ["x4plus"]);
        assert_eq!(near("foto-2x"), ["photo-2x"]);
        assert_eq!(near("something else entirely"), Vec::<String>::new());
        let hint = |name| Explained::hint(&ModelError::unknown(name, names())).map(std::borrow::Cow::into_owned);
        assert_eq!(hint("x4pus").as_deref(), Some("did you mean x4plus? `enlarger models list` shows all"));
        assert_eq!(
            hint("something else entirely").as_deref(),
            Some("available models: photo-2x, x4plus, x4plus-anime-6b")
        );
    }

    #[test]
    fn the_manifest_is_of_the_files_that_are_bundled() {
        for model in bundled::manifest() {
            let bytes = bundled::bytes(&model.name).unwrap_or_else(|| panic!("{} has no weights", model.name));
            assert_eq!(
                (model.bytes, model.sha256.as_str()),
                (bytes.len() as u64, hash(bytes).as_str()),
                "{}",
                model.name
            );
        }
    }
}
