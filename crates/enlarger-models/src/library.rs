//! Checkpoints and what belongs to them, where other programs keep them: ComfyUI's and A1111's folders. Files stay where they are and
//! are recognised by their headers alone.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Mutex,
    time::UNIX_EPOCH,
};

use enlarger_diffusion::{
    family::{Checkpoint, Family, Kind, recognise},
    file::{SAVED_BY_DIFFUSERS, Safetensors, by_extension, not_read},
};
use enlarger_nn::{arch::detect, weights};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::ModelError;

/// Folders within folders that are searched: `ComfyUI/models/checkpoints/sd15/merges` has five.
const DEPTH: usize = 8;
/// Entries that are looked at; what lies beyond is not a folder of models.
const ENTRIES: usize = 100_000;
/// Larger `.pth` files are no networks that enlarge.
const LARGEST_PTH: u64 = 200 << 20;

/// Folders with files of Stable Diffusion, and what is remembered of those.
#[derive(Debug)]
pub struct Library {
    folders: Vec<PathBuf>,
    any_path: bool,
    hashes: Hashes,
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// By which it is asked for: its name without extension, with the folders above it where others of its kind have the same.
    pub name: String,
    /// Where it lies.
    #[serde(serialize_with = "shown")]
    pub path: PathBuf,
    /// Its size; of a folder that of all its weights.
    pub bytes: u64,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
    /// Its SHA-256 if it has been read before.
    pub sha256: Option<String>,
    /// Its license, if the file tells (`modelspec.license`).
    pub license: Option<String>,
}

/// A path as text, also where it is none.
fn shown<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Part of a generative model.
    Part(Kind),
    /// A network that enlarges, in words. `enlarger models add` makes it available.
    Network(String),
    /// Nothing that is supported: why, and what would fit.
    Unsupported(String),
}

impl What {
    /// The family that it fits; of a VAE and some LoRAs the header does not tell.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Part(Kind::Checkpoint { family, .. } | Kind::Control { family, .. } | Kind::Embedding { family }) => {
                Some(*family)
            }
            Self::Part(Kind::Lora { family }) => *family,
            Self::Part(Kind::Vae) | Self::Network(_) | Self::Unsupported(_) => None,
        }
    }

    /// Its kind in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Part(Kind::Checkpoint { .. }) => "checkpoint",
            Self::Part(Kind::Vae) => "vae",
            Self::Part(Kind::Control { .. }) => "control",
            Self::Part(Kind::Lora { .. }) => "lora",
            Self::Part(Kind::Embedding { .. }) => "embedding",
            Self::Network(_) => "network",
            Self::Unsupported(_) => "unsupported",
        }
    }

    /// Whether it can be used with a checkpoint of a family. Where a header does not tell, it may.
    pub fn fits(&self, family: Family) -> bool {
        matches!(self, Self::Part(_)) && self.family().is_none_or(|own| own == family)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(kind) => kind.fmt(f),
            Self::Network(what) => write!(f, "upscaling model, {what}"),
            Self::Unsupported(why) => f.write_str(why),
        }
    }
}

impl Serialize for What {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Plain {
            kind: &'static str,
            family: Option<String>,
            what: String,
        }
        let family = self.family().map(|family| family.to_string());
        Plain { kind: self.kind(), family, what: self.to_string() }.serialize(serializer)
    }
}

impl Library {
    /// Folders to search. Hashes are remembered in a file of `cache`, if there is such a folder.
    pub fn new(folders: Vec<PathBuf>, cache: Option<PathBuf>) -> Self {
        Self { folders, any_path: false, hashes: Hashes::new(cache.map(|folder| folder.join("hashes.json"))) }
    }

    /// Also takes paths where a name is asked for. Only for people on this machine: others could ask what files it has.
    #[must_use]
    pub fn with_paths(self) -> Self {
        Self { any_path: true, ..self }
    }

    /// The folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Folders that cannot be searched, because they are not there.
    pub fn missing(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(PathBuf::as_path).filter(|folder| !folder.is_dir())
    }

    /// All files of models in the folders, sorted by path. Only headers are read, but for networks that enlarge, which are small.
    pub fn scan(&self) -> Vec<Found> {
        self.looked_at(true)
    }

    /// Files of generative models alone, by their headers.
    pub fn parts(&self) -> Vec<Found> {
        self.looked_at(false).into_iter().filter(|found| matches!(found.what, What::Part(_))).collect()
    }

    /// How many files there are in the folders, models or not; a folder that diffusers saved counts as one.
    pub fn files(&self) -> usize {
        self.places().len()
    }

    fn looked_at(&self, networks: bool) -> Vec<Found> {
        let look = |place: &Place| Some((place.clone(), self.look_at(&place.path, networks)?));
        let mut found: Vec<(Place, Found)> = self.places().iter().filter_map(look).collect();
        let mut names: HashMap<(&'static str, String), usize> = HashMap::new();
        let key = |found: &Found| (found.what.kind(), found.name.to_lowercase());
        found.iter().for_each(|(_, found)| *names.entry(key(found)).or_default() += 1);
        for (place, found) in &mut found {
            if names[&key(found)] > 1 {
                found.name = place.whole_name();
            }
        }
        found.into_iter().map(|(_, found)| found).collect()
    }

    fn places(&self) -> Vec<Place> {
        let mut search = Search { seen: HashSet::new(), left: ENTRIES, places: Vec::new() };
        self.folders.iter().for_each(|folder| search.folder(folder, folder, DEPTH));
        search.places.sort();
        search.places
    }

    /// One file, or a folder as diffusers saves it; nothing if it is no file of a model.
    pub fn look(&self, path: &Path) -> Option<Found> {
        self.look_at(path, true)
    }

    /// `networks`: whether files are read to tell whether they are networks that enlarge.
    fn look_at(&self, path: &Path, networks: bool) -> Option<Found> {
        let (bytes, what, license) = if path.is_dir() {
            let checkpoint = Checkpoint::open(path);
            let what = match checkpoint {
                Ok(c) => What::Part(Kind::Checkpoint {
                    family: c.family,
                    prediction: c.prediction,
                    vae: !c.vae.is_empty(),
                    text: !c.text.is_empty(),
                }),
                Err(error) => What::Unsupported(error.to_string()),
            };
            (weights_in(path).iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum(), what, None)
        } else {
            let bytes = path.metadata().ok()?.len();
            let (what, license) = look_into(path, bytes, networks)?;
            (bytes, what, license)
        };
        Some(Found {
            name: Self::name(path),
            path: path.to_owned(),
            bytes,
            what,
            sha256: self.hashes.known(path),
            license,
        })
    }

    /// The name by which a file is asked for: without extension, unless it is a folder, or one in which diffusers saved a ControlNet or a VAE.
    pub fn name(path: &Path) -> String {
        let path = named_by(path);
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The file of a name: with or without extension, and with or without folders above it, as far as the one that is searched; or a
    /// path if these are taken.
    ///
    /// # Errors
    /// [`ModelError::NoFile`] with what is there of that kind, [`ModelError::Several`] if several files have that name.
    pub fn find(&self, kind: &'static str, name: &str) -> Result<PathBuf, ModelError> {
        let path = Path::new(name);
        if !self.any_path || !path.exists() {
            return self.named(kind, name);
        }
        // A folder may merely be called like a file that is meant.
        if path.is_dir() && !is_of_diffusers(path) && weights_in(path).is_empty() {
            let part = path.join(SAVED_BY_DIFFUSERS).with_extension("safetensors");
            return if part.is_file() { Ok(part) } else { self.named(kind, name) };
        }
        Ok(path.to_owned())
    }

    /// [`Self::find`] without paths.
    ///
    /// # Errors
    /// As there.
    pub fn named(&self, kind: &'static str, name: &str) -> Result<PathBuf, ModelError> {
        let asked = parts_of(name);
        let named = self.places().into_iter().filter(|place| place.is_called(&asked));
        let named: Vec<(Place, Found)> =
            named.filter_map(|place| Some((place.clone(), self.look_at(&place.path, false)?))).collect();
        let mut fitting: Vec<&(Place, Found)> = named.iter().filter(|(_, found)| found.what.kind() == kind).collect();
        fitting.dedup_by_key(|(place, _)| place.path.canonicalize().ok());
        let name = || name.chars().filter(|c| !c.is_control()).take(200).collect();
        match fitting[..] {
            [(place, _)] => Ok(place.path.clone()),
            // Another kind of that name is opened, too, which tells what it is.
            [] => named.first().map(|(place, _)| place.path.clone()).ok_or_else(|| ModelError::NoFile {
                kind,
                name: name(),
                or_path: self.any_path && (asked.len() > 1 || asked[0].ends_with(".safetensors")),
                there: self.parts().into_iter().filter(|f| f.what.kind() == kind).map(|f| f.name).collect(),
            }),
            // A name that is one file's whole name means that file.
            _ => match fitting.iter().filter(|(place, _)| place.is_wholly(&asked)).collect::<Vec<_>>()[..] {
                [(place, _)] => Ok(place.path.clone()),
                _ => Err(ModelError::Several {
                    kind,
                    name: name(),
                    there: fitting.iter().map(|(place, _)| place.whole_name()).collect(),
                }),
            },
        }
    }

    /// SHA-256 of a file, or of what a folder of diffusers holds. Read once: afterwards size and time tell whether it changed.
    ///
    /// # Errors
    /// [`ModelError::Unread`], [`ModelError::Cancelled`] if `cancelled` says so meanwhile.
    pub fn sha256(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<String, ModelError> {
        if !path.is_dir() {
            return self.hashes.of(path, cancelled);
        }
        let mut whole = Sha256::new();
        for file in weights_in(path) {
            let name = file.strip_prefix(path).unwrap_or(&file);
            whole.update(format!("{} {}\n", name.display(), self.hashes.of(&file, cancelled)?));
        }
        Ok(hex::encode(whole.finalize()))
    }
}

/// What names a file: the file, or the folder of a part that diffusers saved.
fn named_by(path: &Path) -> &Path {
    let is_part = path.file_stem().is_some_and(|stem| stem == SAVED_BY_DIFFUSERS);
    path.parent().filter(|folder| is_part && folder.file_name().is_some()).unwrap_or(path)
}

/// A file that was found, or a folder as diffusers saves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    path: PathBuf,
    /// From the folder that was searched to what names it.
    below: PathBuf,
}

impl Place {
    /// Its name, with the folders above it.
    fn whole_name(&self) -> String {
        let name = Library::name(&self.path);
        let above = self.below.parent().into_iter().flat_map(Path::components);
        let above: Vec<_> = above.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        above.into_iter().chain([name]).collect::<Vec<_>>().join("/")
    }

    /// Whether a name means it: its own with or without extension, below the last folders above it.
    fn is_called(&self, asked: &[&str]) -> bool {
        let [above @ .., name] = asked else { return false };
        let same = |own: &std::ffi::OsStr, asked: &str| own.to_string_lossy().eq_ignore_ascii_case(asked);
        let named_by = named_by(&self.path);
        let names = [named_by.file_name(), named_by.file_stem()].into_iter().flatten();
        let folders: Vec<_> = self.below.parent().into_iter().flat_map(Path::components).collect();
        names.into_iter().any(|own| same(own, name))
            && above.len() <= folders.len()
            && folders[folders.len() - above.len()..].iter().zip(above).all(|(own, asked)| same(own.as_os_str(), asked))
    }

    fn is_wholly(&self, asked: &[&str]) -> bool {
        self.is_called(asked) && self.below.components().count() == asked.len()
    }
}

/// A name cut at its folders, of either system.
fn parts_of(name: &str) -> Vec<&str> {
    name.split(['/', '\\']).collect()
}

/// What a file is, by its extension and its header, and its license.
fn look_into(path: &Path, bytes: u64, networks: bool) -> Option<(What, Option<String>)> {
    let extension = path.extension()?.to_str()?.to_lowercase();
    let unsupported = |why: String| Some((What::Unsupported(why), None));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match extension.as_str() {
        "safetensors" => {
            let file = match Safetensors::open(path) {
                Ok(file) => file,
                Err(error) => return unsupported(error.to_string()),
            };
            let license = file.note("modelspec.license").map(|text| text.chars().take(200).collect());
            match recognise(&file) {
                Ok(kind) => Some((What::Part(kind), license)),
                // Those that enlarge are small, and known once they are read.
                Err(error) if networks && bytes <= LARGEST_PTH => Some((network(path, error.to_string()), license)),
                Err(error) => Some((What::Unsupported(error.to_string()), license)),
            }
        }
        "pth" if networks && bytes <= LARGEST_PTH => {
            Some((network(path, format!("{name} is not a recognized model")), None))
        }
        _ => unsupported(not_read(&name, by_extension(path)?)),
    }
}

/// A network that enlarges, or why it is none.
fn network(path: &Path, otherwise: String) -> What {
    match weights::read(path).and_then(detect) {
        Ok((architecture, _)) => What::Network(format!("{architecture}, {}x", architecture.scale())),
        Err(_) => What::Unsupported(otherwise),
    }
}

/// The files of weights of a folder that diffusers saved.
fn weights_in(folder: &Path) -> Vec<PathBuf> {
    let parts = ["unet", "vae", "text_encoder", "text_encoder_2"];
    let entries = parts.iter().filter_map(|part| fs::read_dir(folder.join(part)).ok()).flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    files
}

/// Whether diffusers saved a folder: ComfyUI's `models` has a folder `unet`, too.
fn is_of_diffusers(folder: &Path) -> bool {
    let marked = ["model_index.json", "unet/config.json"].iter().any(|file| folder.join(file).is_file());
    marked && !weights_in(folder).is_empty()
}

struct Search {
    seen: HashSet<PathBuf>,
    left: usize,
    places: Vec<Place>,
}

impl Search {
    /// A folder in the one that is searched, its `root`.
    fn folder(&mut self, root: &Path, folder: &Path, depth: usize) {
        // Links may lead back.
        let Ok(real) = folder.canonicalize() else { return };
        if depth == 0 || !self.seen.insert(real) {
            return;
        }
        let Ok(entries) = fs::read_dir(folder) else { return };
        if is_of_diffusers(folder) {
            self.take(root, folder.to_owned());
            return;
        }
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if hidden {
                continue;
            }
            if path.is_dir() {
                self.folder(root, &path, depth - 1);
            } else if path.is_file() {
                self.take(root, path);
            }
        }
    }

    fn take(&mut self, root: &Path, path: PathBuf) {
        let below = named_by(&path).strip_prefix(root).unwrap_or(&path).to_owned();
        self.places.push(Place { path, below });
    }
}

/// SHA-256 by path, size and time of change.
#[derive(Debug)]
struct Hashes {
    file: Option<PathBuf>,
    known: Mutex<HashMap<PathBuf, Known>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    bytes: u64,
    changed: u128,
    sha256: String,
}

impl Hashes {
    fn new(file: Option<PathBuf>) -> Self {
        let known = file.as_ref().and_then(|file| serde_json::from_slice(&fs::read(file).ok()?).ok());
        Self { file, known: Mutex::new(known.unwrap_or_default()) }
    }

    fn known(&self, path: &Path) -> Option<String> {
        let (path, bytes, changed) = stamp(path).ok()?;
        let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.get(&path).filter(|known| known.bytes == bytes && known.changed == changed).map(|k| k.sha256.clone())
    }

    fn of(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<String, ModelError> {
        if let Some(known) = self.known(path) {
            return Ok(known);
        }
        let unread = |e: std::io::Error| ModelError::Unread { path: path.to_owned(), why: e.to_string() };
        let (real, bytes, changed) = stamp(path).map_err(unread)?;
        let (mut file, mut digest) = (File::open(path).map_err(unread)?, Sha256::new());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(unread)? {
                0 => break,
                _ if cancelled() => return Err(ModelError::Cancelled),
                length => digest.update(&buffer[..length]),
            }
        }
        let sha256 = hex::encode(digest.finalize());
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(real, Known { bytes, changed, sha256: sha256.clone() });
        // Only a shortcut: without it the file is read again.
        let _ = self.store(&known);
        Ok(sha256)
    }

    /// Through a temporary file, so that nobody reads half of it.
    fn store(&self, known: &HashMap<PathBuf, Known>) -> std::io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(known)?)?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }
}

fn stamp(path: &Path) -> std::io::Result<(PathBuf, u64, u128)> {
    let (real, metadata) = (path.canonicalize()?, path.metadata()?);
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Ok((real, metadata.len(), changed))
}

#[cfg(test)]
mod tests {
    use enlarger_error::Explained;

    use super::*;

    /// A file with a true header and no bytes on disk behind it.
    fn sparse(path: &Path, arrays: &[(&str, &[usize])]) {
        let mut at = 0;
        let mut entries = serde_json::Map::new();
        for (name, shape) in arrays {
            let from = at;
            at += 2 * shape.iter().product::<usize>();
            entries.insert(
                (*name).to_owned(),
                serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [from, at]}),
            );
        }
        let header = serde_json::to_vec(&entries).expect("plain data");
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        let mut file = File::create(path).expect("it can be made");
        file.write_all(&(header.len() as u64).to_le_bytes()).expect("room");
        file.write_all(&header).expect("room");
        file.set_len((8 + header.len() + at) as u64).expect("room");
    }

    const CHECKPOINT: &[(&str, &[usize])] = &[
        ("model.diffusion_model.input_blocks.0.0.weight", &[320, 4, 3, 3]),
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", &[320, 768]),
        ("first_stage_model.decoder.conv_in.weight", &[512, 4, 3, 3]),
        ("cond_stage_model.transformer.text_model.x", &[1]),
    ];

    #[test]
    fn folders_of_other_programs_are_searched_and_files_found_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let models = folder.path().join("ComfyUI/models");
        sparse(&models.join("checkpoints/sd15/photo.safetensors"), CHECKPOINT);
        sparse(
            &models.join("controlnet/tile.safetensors"),
            &[
                ("control_model.input_hint_block.0.weight", &[16, 3, 3, 3]),
                ("control_model.x.attn2.to_k.weight", &[640, 2048]),
            ],
        );
        sparse(&models.join("vae/photo.safetensors"), &[("decoder.conv_in.weight", &[512, 4, 3, 3])]);
        sparse(&models.join("checkpoints/flux.safetensors"), &[("double_blocks.0.x", &[3, 3])]);
        fs::write(models.join("checkpoints/old.ckpt"), b"PK").expect("room");
        fs::write(models.join("checkpoints/cut.safetensors"), [9; 20]).expect("room");
        fs::write(models.join("checkpoints/put_checkpoints_here"), b"").expect("room");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&models, models.join("vae/again")).expect("a link");

        let library = Library::new(vec![models.clone()], None);
        let told: Vec<(String, &str)> = library.scan().into_iter().map(|f| (f.name.clone(), f.what.kind())).collect();
        let expected = [
            ("cut", "unsupported"),
            ("flux", "unsupported"),
            ("old", "unsupported"),
            ("photo", "checkpoint"),
            ("tile", "control"),
            ("photo", "vae"),
        ];
        assert_eq!(told, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(library.find("vae", "Photo").ok(), Some(models.join("vae/photo.safetensors")));
        assert_eq!(
            library.find("checkpoint", "photo.safetensors").ok(),
            Some(models.join("checkpoints/sd15/photo.safetensors"))
        );
        let none = library.find("lora", "detail").expect_err("there is none").to_string();
        assert_eq!(none, "there is no LoRA named \"detail\"");
        let path = models.join("vae/photo.safetensors");
        let by_path = path.to_str().expect("plain");
        assert!(library.find("vae", by_path).is_err(), "a name is not a path");
        assert!(Library::new(Vec::new(), None).with_paths().find("vae", by_path).is_ok());
    }

    #[test]
    fn a_folder_of_comfyui_with_a_folder_unet_is_searched_and_one_of_diffusers_is_one_checkpoint() {
        let folder = tempfile::tempdir().expect("a folder");
        let models = folder.path().join("models");
        let unet: &[(&str, &[usize])] = &[
            ("conv_in.weight", &[320, 4, 3, 3]),
            ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", &[320, 768]),
        ];
        let vae: &[(&str, &[usize])] = &[("decoder.conv_in.weight", &[512, 4, 3, 3])];
        sparse(&models.join("checkpoints/photo.safetensors"), CHECKPOINT);
        sparse(&models.join("unet/bare.safetensors"), unet);
        sparse(&models.join("vae/soft.safetensors"), vae);
        let diffusers = models.join("diffusers/whole");
        sparse(&diffusers.join("unet/diffusion_pytorch_model.safetensors"), unet);
        sparse(&diffusers.join("vae/diffusion_pytorch_model.safetensors"), vae);
        fs::write(diffusers.join("model_index.json"), b"{}").expect("room");

        let told = |found: Vec<Found>| found.into_iter().map(|f| (f.name, f.what.kind())).collect::<Vec<_>>();
        let found = told(Library::new(vec![models], None).scan());
        let expected = [("photo", "checkpoint"), ("whole", "checkpoint"), ("bare", "checkpoint"), ("soft", "vae")];
        assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(told(Library::new(vec![diffusers], None).scan()), [("whole".to_owned(), "checkpoint")]);
    }

    #[test]
    fn a_part_that_diffusers_saved_has_the_name_of_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("controlnet/tile_of_mine/diffusion_pytorch_model.safetensors");
        let arrays: &[(&str, &[usize])] = &[
            ("controlnet_cond_embedding.conv_in.weight", &[16, 3, 3, 3]),
            ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", &[320, 768]),
        ];
        sparse(&file, arrays);
        let library = Library::new(vec![folder.path().to_owned()], None);
        assert_eq!(library.scan().pop().expect("it is found").name, "tile_of_mine");
        for name in ["tile_of_mine", "controlnet/Tile_of_mine"] {
            assert_eq!(library.find("control", name).ok(), Some(file.clone()), "{name}");
        }
        let path = file.parent().and_then(Path::to_str).expect("plain");
        assert_eq!(library.with_paths().find("control", path).ok(), Some(file.clone()));
    }

    #[test]
    fn the_family_of_a_lora_is_told_by_the_first_of_its_matrices() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("detail.safetensors");
        // By kohya's names, of which blocks that go down have it in theirs.
        let layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
        let [alpha, down, up] = ["alpha", "lora_down.weight", "lora_up.weight"].map(|part| format!("{layer}.{part}"));
        for (width, family) in [(768, Family::Sd1), (2048, Family::Sdxl)] {
            let arrays: [(&str, &[usize]); 3] = [(&alpha, &[]), (&down, &[4, width]), (&up, &[320, 4])];
            sparse(&file, &arrays);
            let found = Library::new(Vec::new(), None).look(&file).expect("it is a model");
            assert_eq!(found.what.family(), Some(family));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_text_does_not_hide_the_others() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

        let folder = tempfile::tempdir().expect("a folder");
        sparse(&folder.path().join(OsStr::from_bytes(b"\xff\xfe.safetensors")), CHECKPOINT);
        sparse(&folder.path().join("photo.safetensors"), CHECKPOINT);
        let found = serde_json::to_value(Library::new(vec![folder.path().to_owned()], None).scan()).expect("JSON");
        assert_eq!(found.as_array().map(Vec::len), Some(2), "{found}");
    }

    #[test]
    fn files_of_one_name_are_told_apart_by_their_folders() {
        let folder = tempfile::tempdir().expect("a folder");
        let models = folder.path().join("models");
        for name in ["checkpoints/photo", "checkpoints/sd15/photo", "checkpoints/sd15/other"] {
            sparse(&models.join(format!("{name}.safetensors")), CHECKPOINT);
        }
        let library = Library::new(vec![models.clone()], None);
        let names: Vec<String> = library.parts().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["checkpoints/photo", "other", "checkpoints/sd15/photo"]);
        let find = |name: &str| library.find("checkpoint", name);
        for name in ["sd15/photo", "sd15\\Photo.safetensors", "checkpoints/sd15/photo"] {
            assert_eq!(find(name), Ok(models.join("checkpoints/sd15/photo.safetensors")), "{name}");
        }
        assert_eq!(find("checkpoints/photo"), Ok(models.join("checkpoints/photo.safetensors")));
        assert_eq!(find("sd15/other"), Ok(models.join("checkpoints/sd15/other.safetensors")));
        let error = find("photo").expect_err("there are two");
        assert_eq!(error.to_string(), "there are 2 checkpoints named \"photo\"");
        assert_eq!(
            error.hint().as_deref(),
            Some("specify one with its folder: checkpoints/photo, checkpoints/sd15/photo")
        );
        for name in ["models/checkpoints/photo", "../checkpoints/photo", "/photo", "./photo", "sdxl/photo", ""] {
            assert!(matches!(find(name), Err(ModelError::NoFile { .. })), "{name}");
        }
    }

    #[test]
    fn a_file_is_hashed_once_until_it_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, cache) = (folder.path().join("x.safetensors"), folder.path().join("cache"));
        fs::write(&path, b"abc").expect("room");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let library = Library::new(Vec::new(), Some(cache.clone()));
        assert_eq!(library.sha256(&path, &|| false).as_deref(), Ok(abc));
        // Another process remembers, and the file's content is not looked at.
        let again = Library::new(Vec::new(), Some(cache));
        assert_eq!(again.hashes.known(&path).as_deref(), Some(abc));
        fs::write(&path, b"abcd").expect("room");
        assert_eq!(again.hashes.known(&path), None);
        assert_ne!(again.sha256(&path, &|| false).as_deref(), Ok(abc));
    }
}
