//! A safetensors file: its header is read and checked at once, its arrays one by one.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Mutex,
};

use safetensors::{Dtype, SafeTensors, tensor::Metadata};

use crate::{
    array::Array,
    error::{Error, Result, reserved, shortened},
};

/// How diffusers begins the names of files of weights, whatever they are of; a part that is saved alone has this name.
pub const SAVED_BY_DIFFUSERS: &str = "diffusion_pytorch_model";

/// An open file whose header is sound: every array lies inside the file and is as long as its shape and type say.
#[derive(Debug)]
pub struct Safetensors {
    path: PathBuf,
    file: Mutex<File>,
    header: Metadata,
    start: u64,
}

impl Safetensors {
    /// Reads the header of a file and nothing else.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, is not a safetensors file, is truncated, or its header claims what
    /// cannot be; [`Error::Unsupported`] for files of PyTorch and GGUF. No memory is taken for what a header merely claims.
    pub fn open(path: &Path) -> Result<Self> {
        let named = || path.file_name().map_or_else(|| path.display().to_string(), |n| shortened(&n.to_string_lossy()));
        let bad = |what: &dyn std::fmt::Display| Error::File(format!("{}: {what}", named()));
        // Opening a pipe waits for whoever writes to it.
        if !path.metadata().map_err(|e| bad(&e))?.is_file() {
            return Err(bad(&"it is not a file"));
        }
        let mut file = File::open(path).map_err(|e| bad(&e))?;
        let size = file.metadata().map_err(|e| bad(&e))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| match by_extension(path) {
            Some(what) => Error::Unsupported(not_read(&named(), what)),
            None => bad(&"it is too short to be a safetensors file"),
        })?;
        let claimed = u64::from_le_bytes(length);
        if claimed > (size - 8).min(LONGEST_HEADER)
            && let Some(what) = foreign(&length, path)
        {
            return Err(Error::Unsupported(not_read(&named(), what)));
        }
        if claimed > size - 8 {
            return Err(bad(&"it is truncated, or not a safetensors file: its header would be longer than the file"));
        }
        if claimed > LONGEST_HEADER {
            return Err(bad(&format!(
                "its header would take {} MB; no real one takes {}",
                claimed >> 20,
                LONGEST_HEADER >> 20
            )));
        }
        let mut bytes = length.to_vec();
        (&mut file).take(claimed).read_to_end(&mut bytes).map_err(|e| bad(&e))?;
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .or_else(|e| match e {
                // The library wants the arrays, too, before it trusts the header.
                safetensors::SafeTensorError::MetadataIncompleteBuffer => parse(&bytes[8..]).map(|header| (0, header)),
                e => Err(e),
            })
            .map_err(|e| bad(&format!("its header is damaged: {}", shortened(&e.to_string()))))?;
        let start = 8 + claimed;
        let data = header.data_len() as u64;
        if size - start != data {
            let problem = if size - start < data { "truncated" } else { "longer than its header says" };
            return Err(bad(&format!("it is {problem}: {} bytes of arrays, {data} in the header", size - start)));
        }
        Ok(Self { path: path.to_path_buf(), file: Mutex::new(file), header, start })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name without folder, as it may stand in a sentence.
    pub fn name(&self) -> String {
        let name = |path: &Path| path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let own = name(&self.path);
        // As diffusers calls the weights of everything: its folder tells what it is.
        let folder =
            self.path.parent().map(name).filter(|folder| own.starts_with(SAVED_BY_DIFFUSERS) && !folder.is_empty());
        shortened(&folder.map_or_else(|| own.clone(), |folder| format!("{folder}/{own}")))
    }

    /// Names of the arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort_unstable();
        names
    }

    /// The shape of an array.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| info.shape.as_slice())
    }

    /// The number format of an array.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.header.info(name).map(|info| info.dtype)
    }

    /// Where the bytes of an array begin and end.
    pub(crate) fn extent(&self, name: &str) -> Option<(usize, usize)> {
        self.header.info(name).map(|info| info.data_offsets)
    }

    /// What the file says of itself, such as `modelspec.license`.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Reads an array. The file is held open, so one that is replaced meanwhile gives its old bytes.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is none of that name, [`Error::File`] if the disk fails or the type is not read,
    /// [`Error::Memory`].
    pub fn read(&self, name: &str) -> Result<Array> {
        let missing = || Error::Weights(format!("{} lacks {}", self.name(), shortened(name)));
        let info = self.header.info(name).ok_or_else(missing)?;
        let (from, to) = info.data_offsets;
        let mut bytes = reserved(to - from)?;
        bytes.resize(to - from, 0);
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| Error::File(format!("{}: {} cannot be read: {e}", self.name(), shortened(name))))?;
        Array::from_bytes(&format!("{} of {}", shortened(name), self.name()), info.dtype, &info.shape, bytes)
    }
}

/// Files of weights that are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A `.ckpt`, `.pt` or `.pth`, which holds a program in Python's pickle format.
    PyTorch,
    /// A file of llama.cpp and its like.
    Gguf,
}

/// What a file is by its extension.
pub fn by_extension(path: &Path) -> Option<Foreign> {
    match path.extension()?.to_str()?.to_lowercase().as_str() {
        "ckpt" | "pt" | "pth" => Some(Foreign::PyTorch),
        "gguf" => Some(Foreign::Gguf),
        _ => None,
    }
}

/// What a file is by its first bytes: a zip archive or a pickle of torch, or a GGUF file.
fn foreign(start: &[u8; 8], path: &Path) -> Option<Foreign> {
    match start {
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => Some(Foreign::PyTorch),
        [b'G', b'G', b'U', b'F', ..] => Some(Foreign::Gguf),
        _ => by_extension(path),
    }
}

/// Says that a file is not read, and what would be.
pub fn not_read(name: &str, what: Foreign) -> String {
    match what {
        Foreign::PyTorch => format!(
            "{name} is a PyTorch file, which is not read for Stable Diffusion; hint: save it as .safetensors, as A1111's checkpoint \
             merger and ComfyUI's node Save Checkpoint do"
        ),
        Foreign::Gguf => format!("{name} is a GGUF file, which is not read; hint: use the .safetensors of it"),
    }
}

/// Headers of real checkpoints take some 200 kB, of the largest nets 2 MB. One of 31 MB that was made to be slow takes 14 seconds to read.
const LONGEST_HEADER: u64 = 8 << 20;

/// Offsets, shapes and lengths are checked by the library as it reads.
fn parse(json: &[u8]) -> std::result::Result<Metadata, safetensors::SafeTensorError> {
    serde_json::from_slice(json).map_err(safetensors::SafeTensorError::InvalidHeaderDeserialization)
}
