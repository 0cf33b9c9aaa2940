//! What was learned of this machine's cards, remembered from one process to the next: how fast each is, and which kernels passed
//! their self-test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    thread::available_parallelism,
};

use serde::{Deserialize, Serialize};

use super::survey::{Survey, Surveyed};

/// What decides which drivers the Vulkan loader loads, and which loader.
const DRIVERS: [&str; 4] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", "LD_LIBRARY_PATH"];

/// What is remembered, and of what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    /// The program's version, its CPU and what chooses drivers: with another one nothing is known.
    of: Vec<String>,
    survey: Survey,
    /// Texts of kernels, hashed, that passed on a card.
    proofs: BTreeMap<String, BTreeSet<u64>>,
}

/// A file that remembers; without one, as long as the process lives. What cannot be read is forgotten, what cannot be written is not
/// remembered: all of it can be measured again.
#[derive(Debug, Default)]
pub struct Memory {
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

impl Memory {
    /// Reads a file, if it is there and was written by the same program on the same CPU with the same settings of drivers.
    pub fn open(file: Option<&Path>, cpu: &str) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let mut of = vec![env!("CARGO_PKG_VERSION").to_owned(), format!("{cpu}, {cores} cores")];
        of.extend(DRIVERS.iter().map(|name| std::env::var(name).unwrap_or_default()));
        let read = file.and_then(|file| serde_json::from_slice::<Known>(&contents(file)?).ok());
        let known = read.filter(|known| known.of == of).unwrap_or_else(|| Known { of, ..Known::default() });
        Self { file: file.map(Path::to_owned), known: Mutex::new(known) }
    }

    /// The cards as they were last seen.
    pub fn survey(&self) -> Survey {
        self.known().survey.clone()
    }

    /// Remembers the cards, and forgets what others passed. Of those that were not measured now, it keeps what was measured before.
    pub fn keep(&self, survey: &Survey) {
        let mut known = self.known();
        let before = known.clone();
        known.survey = survey.clone();
        for card in known.survey.cards.iter_mut().filter(|card| card.rate == 0.0 && card.unfit.is_none()) {
            if let Some(before) = before.survey.cards.iter().find(|before| before.is(card)) {
                *card = before.clone();
            }
        }
        if known.survey.cpu == 0.0 {
            known.survey.cpu = before.survey.cpu;
        }
        known.proofs.retain(|card, _| survey.cards.iter().any(|there| *card == key(there)));
        // Where there is no GPU, nothing is worth a file.
        if *known != before {
            self.write(&known);
        }
    }

    /// Takes the file away while drivers are loaded: if they end this process, the next one finds nothing, and asks another process
    /// first. [`Self::trust`] brings it back.
    pub fn doubt(&self) {
        if let Some(file) = &self.file {
            _ = fs::remove_file(file);
        }
    }

    /// Writes the file.
    pub fn trust(&self) {
        self.write(&self.known());
    }

    /// Whether a kernel of this text passed its self-test on a card.
    pub fn has_passed(&self, card: &Surveyed, text: &str) -> bool {
        self.known().proofs.get(&key(card)).is_some_and(|passed| passed.contains(&hash(text)))
    }

    /// Remembers that it did.
    pub fn pass(&self, card: &Surveyed, text: &str) {
        let mut known = self.known();
        known.proofs.entry(key(card)).or_default().insert(hash(text));
        self.write(&known);
    }

    /// Forgets what passed on a card that has failed since.
    pub fn forget(&self, card: &Surveyed) {
        let mut known = self.known();
        if known.proofs.remove(&key(card)).is_some() {
            self.write(&known);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic under it")
    }

    /// Replaces the file as a whole, so that no other process reads half of it.
    fn write(&self, known: &Known) {
        let Some(file) = &self.file else { return };
        let new = file.with_extension(std::process::id().to_string());
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        let bytes = serde_json::to_vec(known).map_err(Into::into);
        let written = folder.and(bytes).and_then(|bytes| fs::write(&new, bytes)).and_then(|()| fs::rename(&new, file));
        if written.is_err() {
            _ = fs::remove_file(&new);
        }
    }
}

fn key(card: &Surveyed) -> String {
    [&*card.name, &card.pci, &card.driver].join("|")
}

/// Stays the same as long as the program does.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What a file has, if it is one, and not too large for what is kept here: a pipe would be waited for.
fn contents(file: &Path) -> Option<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    fs::metadata(file).ok().filter(|about| about.is_file() && about.len() <= MOST)?;
    fs::read(file).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(driver: &str) -> Surveyed {
        let (name, pci, driver) = ("card".to_owned(), String::new(), driver.to_owned());
        Surveyed { name, pci, driver, memory: None, rate: 1e12, matrix: false, unfit: None }
    }

    #[test]
    fn what_was_measured_and_passed_is_remembered_by_card_driver_and_kernel() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("not yet there").join("gpus.json");
        let open = |cpu| Memory::open(Some(&file), cpu);
        let survey = Survey { cpu: 1e11, cards: vec![card("driver 1")], ..Survey::default() };
        let memory = open("cpu");
        assert_eq!(memory.survey(), Survey::default());
        memory.keep(&survey);
        memory.pass(&card("driver 1"), "kernel");
        // Who only looks what there is forgets no measurement.
        memory.keep(&Survey { cards: vec![Surveyed { rate: 0.0, ..card("driver 1") }], ..Survey::default() });
        let again = open("cpu");
        assert_eq!(again.survey(), survey);
        assert!(again.has_passed(&card("driver 1"), "kernel"));
        assert!(!again.has_passed(&card("driver 2"), "kernel") && !again.has_passed(&card("driver 1"), "another"));
        assert_eq!(open("another cpu").survey(), Survey::default(), "what another machine measured is not used");

        // Drivers that end the process leave nothing behind to trust.
        again.doubt();
        assert_eq!(open("cpu").survey(), Survey::default());
        again.trust();
        assert_eq!(open("cpu").survey(), survey);
        again.forget(&card("driver 1"));
        assert!(!open("cpu").has_passed(&card("driver 1"), "kernel"));
        assert_eq!(
            fs::read_dir(file.parent().expect("a folder")).expect("it is there").count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_or_written_is_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("gpus.json");
        for content in
            ["", "{\"of\":", "{\"of\":[\"9.9\"],\"survey\":{\"cpu\":1,\"cards\":[],\"lacks\":[]},\"proofs\":{}}"]
        {
            fs::write(&file, content).expect("it can be written");
            assert_eq!(Memory::open(Some(&file), "cpu").survey(), Survey::default(), "{content}");
        }
        // A folder is in its place.
        let memory = Memory::open(Some(folder.path()), "cpu");
        memory.pass(&card("driver"), "kernel");
        assert!(memory.has_passed(&card("driver"), "kernel"), "it lasts as long as the process");
    }
}
