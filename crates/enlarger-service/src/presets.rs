//! People's own presets: a file of JSON for each API key, which this program keeps and does not read.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use enlarger_pipeline::temporary_in;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The presets of all. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Presets(Arc<PathBuf>);

impl Presets {
    /// Those in a folder, which is made if needed.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self(Arc::new(folder)))
    }

    /// Those of an API key, or of everybody where there are no keys.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn of(&self, owner: Option<&str>) -> io::Result<Vec<Value>> {
        match fs::read(self.file(owner)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Replaces them.
    ///
    /// # Errors
    /// If they cannot be written; then the old ones stay.
    pub fn replace(&self, owner: Option<&str>, presets: &[Value]) -> io::Result<()> {
        let mut file = temporary_in(&self.0)?;
        file.write_all(&serde_json::to_vec(presets)?)?;
        file.as_file().sync_all()?;
        file.persist(self.file(owner)).map_err(|failed| failed.error)?;
        Ok(())
    }

    /// Names of keys are anything.
    fn file(&self, owner: Option<&str>) -> PathBuf {
        let Some(owner) = owner else { return self.0.join("everybody.json") };
        let mut name = String::new();
        for byte in Sha256::digest(owner) {
            write!(name, "{byte:02x}").expect("a string takes all");
        }
        self.0.join(name + ".json")
    }
}
