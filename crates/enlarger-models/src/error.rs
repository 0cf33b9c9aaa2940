//! Why a network is not available, in sentences.

use std::{borrow::Cow, path::PathBuf};

use enlarger_error::Explained;

/// Errors of the catalogue.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// There is none of this name.
    #[error("there is no model named {name:?}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Names that come near.
        near: Vec<String>,
        /// All names.
        all: Vec<String>,
    },
    /// A network's weights or entry are not what they were.
    #[error("the model {name} is damaged: {why}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A file to add is not a supported network.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A network of this name is there already.
    #[error("there is already a model named {name}")]
    Taken {
        /// The name.
        name: String,
        /// Whether it is inside the binary.
        bundled: bool,
    },
    /// There is no file of this name in the folders that are searched.
    #[error("there is no {}{} named {name:?}", if *or_path { "file and no " } else { "" }, in_words(kind))]
    NoFile {
        /// What was asked for: checkpoint, vae, control, lora, embedding.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// Whether a path is meant, which would be taken.
        or_path: bool,
        /// What there is of that kind.
        there: Vec<String>,
    },
    /// Several files have this name.
    #[error("there are {} {}s named {name:?}", there.len(), in_words(kind))]
    Several {
        /// What was asked for.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// Their names with their folders.
        there: Vec<String>,
    },
    /// A file of a generative model cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
    /// Bundled networks stay.
    #[error("{0} is part of enlarger and cannot be removed")]
    Bundled(String),
    /// The place for added networks is a file.
    #[error("{} is a file, but added models need a folder", .0.display())]
    Folder(PathBuf),
    /// There is no folder for added networks.
    #[error("there is no folder for added models")]
    NoFolder,
    /// A file could not be written or removed.
    #[error("cannot change the models folder: {0}")]
    Store(String),
}

/// Those of all names that somebody may have meant who wrote this one.
pub fn near<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    all.filter(|known| strsim::levenshtein(known, name) <= 2 + name.len() / 4).collect()
}

impl ModelError {
    pub(crate) fn unknown(name: &str, all: impl Iterator<Item = String>) -> Self {
        let all: Vec<String> = all.collect();
        let near = near(name, all.iter().map(String::as_str)).into_iter().map(str::to_owned).collect();
        Self::Unknown { name: name.to_owned(), near, all }
    }

    /// The model it speaks of.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Unknown { name, .. }
            | Self::Damaged { name, .. }
            | Self::Taken { name, .. }
            | Self::Bundled(name) => Some(name),
            _ => None,
        }
    }
}

impl Explained for ModelError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } | Self::NoFile { .. } | Self::Several { .. } => "model_unknown",
            Self::Damaged { .. } => "model_damaged",
            Self::Unreadable { .. } | Self::Unread { .. } => "model_unreadable",
            Self::Cancelled => "cancelled",
            Self::Taken { .. } => "model_taken",
            Self::Bundled(_) => "model_bundled",
            Self::Folder(_) | Self::NoFolder => "models_folder_missing",
            Self::Store(_) => "models_folder_unwritable",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Cancelled => return None,
            Self::Unknown { near, all, .. } if near.is_empty() => {
                format!("available models: {}", all.join(", ")).into()
            }
            Self::Unknown { near, .. } => {
                format!("did you mean {}? `enlarger models list` shows all", near.join(" or ")).into()
            }
            Self::Damaged { .. } => "remove it and add it again; for a bundled model, reinstall enlarger".into(),
            Self::Unreadable { .. } => format!(
                "{} models can be added, as .safetensors, .pth or a pair of ncnn files",
                enlarger_nn::arch::supported()
            )
            .into(),
            Self::NoFile { kind, there, .. } if there.is_empty() => format!(
                "`enlarger models scan DIR` shows what a folder has; name folders of {} files with --model-dirs or ENLARGER_MODEL_DIRS",
                in_words(kind)
            )
            .into(),
            Self::NoFile { name, there, .. } => {
                let near = near(name, there.iter().map(String::as_str));
                let meant = if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) };
                format!("{meant}available: {}", there.join(", ")).into()
            }
            Self::Several { there, .. } if there.iter().all(|name| *name == there[0]) => {
                "several of the searched folders have such a file: rename one, or search fewer folders".into()
            }
            Self::Several { there, .. } => format!("specify one with its folder: {}", there.join(", ")).into(),
            Self::Unread { .. } => "check the file and its permissions".into(),
            Self::Taken { bundled: true, .. } => "choose another name with --name".into(),
            Self::Taken { .. } => "choose another name with --name, or remove the old model first".into(),
            Self::Bundled(_) => "only models that you added can be removed".into(),
            Self::Folder(_) | Self::NoFolder => "set ENLARGER_DATA_DIR to a writable folder".into(),
            Self::Store(_) => "check the folder's space and permissions".into(),
        })
    }
}

/// A kind of file as it stands in a sentence.
fn in_words(kind: &str) -> &str {
    match kind {
        "control" => "ControlNet",
        "vae" => "VAE",
        "lora" => "LoRA",
        other => other,
    }
}
