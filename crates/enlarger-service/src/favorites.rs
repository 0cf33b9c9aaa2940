//! Results that the disk budget spares.

use std::{fs, io, path::PathBuf, sync::Arc};

use uuid::Uuid;

/// Which tasks are favorites: a folder with an empty file for each, named by its task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Favorites(Arc<PathBuf>);

impl Favorites {
    /// Those in a folder, which is made if needed.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self(Arc::new(folder)))
    }

    /// Whether a task is one.
    pub fn has(&self, task: Uuid) -> bool {
        self.0.join(task.to_string()).exists()
    }

    /// Makes a task one, or none.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn set(&self, task: Uuid, favorite: bool) -> io::Result<()> {
        let file = self.0.join(task.to_string());
        if favorite {
            return fs::File::create(file).map(drop);
        }
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn all(&self) -> io::Result<Vec<Uuid>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&*self.0)? {
            all.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Uuid>().ok()));
        }
        Ok(all)
    }
}
