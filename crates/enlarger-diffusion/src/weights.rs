//! The arrays of one network, by their names inside, from one or several files, with LoRAs added.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    array::Array,
    delta::Delta,
    error::{Error, Result, shortened},
    file::Safetensors,
    names::{self, Renamed},
    ops::Ops,
};

/// Which network an array belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// UNet or ControlNet.
    Unet,
    /// The autoencoder.
    Vae,
    /// A text encoder named as transformers does.
    Clip,
    /// A text encoder named as OpenCLIP does.
    OpenClip,
}

#[derive(Debug)]
struct Entry {
    file: Arc<Safetensors>,
    /// In the file, with its prefix.
    name: String,
    /// In the file, without its prefix.
    theirs: String,
    renamed: Renamed,
}

/// The arrays of one network. Nothing is read before it is asked for.
#[derive(Debug, Default)]
pub struct Weights {
    entries: BTreeMap<String, Entry>,
    deltas: BTreeMap<String, Vec<Delta>>,
}

impl Weights {
    /// Finds the arrays of a network in a file: those whose names begin with `prefix`, which may be empty.
    pub fn new(file: &Arc<Safetensors>, prefix: &str, part: Part) -> Self {
        let mut weights = Self::default();
        weights.extend(file, prefix, part);
        weights
    }

    /// Adds the arrays of another file, as where a folder holds a network in several.
    pub fn extend(&mut self, file: &Arc<Safetensors>, prefix: &str, part: Part) {
        let all = file.names();
        let found: Vec<(&String, &str)> =
            all.iter().filter_map(|name| Some((name, name.strip_prefix(prefix)?))).collect();
        let levels =
            (0..64).take_while(|i| found.iter().any(|(_, n)| n.starts_with(&format!("decoder.up.{i}.")))).count();
        for (name, theirs) in found {
            let renamed = match part {
                Part::OpenClip => names::open_clip(theirs),
                Part::Unet => plain(names::unet(theirs)),
                Part::Vae => plain(names::vae(theirs, levels.max(1))),
                Part::Clip => plain(names::clip(theirs)),
            };
            for renamed in renamed {
                let entry = Entry { file: file.clone(), name: name.clone(), theirs: theirs.to_owned(), renamed };
                self.entries.insert(entry.renamed.name.clone(), entry);
            }
        }
    }

    /// Whether the network has no arrays at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names inside, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Names of modules inside and in the file, without `.weight`.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.values().filter_map(|e| {
            let ours = e.renamed.name.strip_suffix(".weight")?;
            Some((ours, e.theirs.strip_suffix(".weight").unwrap_or(ours)))
        })
    }

    /// The shape of an array, from the header.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let entry = self.entries.get(name)?;
        let mut shape = entry.file.shape(&entry.name)?.to_vec();
        if entry.renamed.transposed {
            shape.reverse();
        }
        if let (Some(_), Some(rows)) = (entry.renamed.third, shape.first_mut()) {
            *rows /= 3;
        }
        Some(shape)
    }

    /// Bytes of all arrays as they lie in their files, which is what a device keeps of them.
    pub fn bytes(&self) -> u64 {
        let bytes = |e: &Entry| {
            let (from, to) = e.file.extent(&e.name)?;
            Some(((to - from) as u64) / if e.renamed.third.is_some() { 3 } else { 1 })
        };
        self.entries.values().filter_map(bytes).sum()
    }

    /// How many values there are in all arrays.
    pub fn parameters(&self) -> u64 {
        self.entries.keys().filter_map(|name| self.shape(name)).map(|s| s.iter().product::<usize>() as u64).sum()
    }

    /// One axis of an array.
    ///
    /// # Errors
    /// [`Error::Weights`] if the array is missing or has fewer axes.
    pub fn length(&self, name: &str, axis: usize) -> Result<usize> {
        let length = self.shape(name).and_then(|shape| shape.get(axis).copied());
        length.filter(|&l| l > 0).ok_or_else(|| self.lacks(name))
    }

    /// How many `{prefix}0.`, `{prefix}1.`, ... there are.
    pub fn count(&self, prefix: &str) -> usize {
        let there = |i: &usize| {
            let prefix = format!("{prefix}{i}.");
            self.entries.range(prefix.clone()..).next().is_some_and(|(name, _)| name.starts_with(&prefix))
        };
        (0..).take_while(there).count()
    }

    /// Whether any array's name begins so.
    pub fn has(&self, prefix: &str) -> bool {
        self.entries.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Reads an array and adds what LoRAs change of it.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is missing, [`Error::File`] if it cannot be read, [`Error::Memory`].
    pub fn get(&self, name: &str) -> Result<Array> {
        let entry = self.entries.get(name).ok_or_else(|| self.lacks(name))?;
        let mut array = entry.file.read(&entry.name)?;
        if entry.renamed.transposed {
            array = array.transposed()?;
        }
        if let Some(third) = entry.renamed.third {
            let rows = array.shape.first().copied().unwrap_or(0) / 3;
            array = array.rows(usize::from(third) * rows, rows)?;
        }
        if let Some(deltas) = self.deltas.get(name) {
            let mut values = array.to_f32()?;
            for delta in deltas {
                delta.add_to(&mut values)?;
            }
            array = array.with_values(&values)?;
        }
        Ok(array)
    }

    /// The error for an array that is missing: by the name that it has beside its like in the file.
    pub(crate) fn lacks(&self, name: &str) -> Error {
        let beside = |(ours, theirs): (&str, &str)| {
            let entry = self.entries.get(&format!("{}{theirs}", name.strip_suffix(ours)?))?;
            Some(format!("{} lacks {}{ours}", entry.file.name(), shortened(entry.name.strip_suffix(theirs)?)))
        };
        let said = [("bias", "weight"), ("weight", "bias")].into_iter().find_map(beside);
        Error::Weights(said.unwrap_or_else(|| format!("{} lacks {}", self.file(), shortened(name))))
    }

    /// The error for arrays that do not fit; `what` follows the name of the file.
    pub(crate) fn misfit(&self, what: &str) -> Error {
        Error::Weights(format!("{} {what}", self.file()))
    }

    /// The error for one array; `what` follows its name.
    pub(crate) fn misfit_of(&self, name: &str, what: &str) -> Error {
        let entry = self.entries.get(name);
        let (name, file) = entry.map_or((name, self.file()), |entry| (&entry.name, entry.file.name()));
        Error::Weights(format!("{} of {file} {what}", shortened(name)))
    }

    /// The file of the arrays; of several one.
    fn file(&self) -> String {
        self.entries.values().next().map_or_else(|| "the file".to_owned(), |entry| entry.file.name())
    }

    /// Remembers what a LoRA changes of an array.
    pub(crate) fn change(&mut self, name: String, delta: Delta) {
        self.deltas.entry(name).or_default().push(delta);
    }

    /// Reads the layer `name`: `.weight`, and `.bias` if there is one.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn layer<O: Ops>(&self, ops: &O, name: &str) -> Result<O::Weights> {
        let bias = format!("{name}.bias");
        let bias = if self.entries.contains_key(&bias) { Some(self.get(&bias)?) } else { None };
        ops.weights(self.get(&format!("{name}.weight"))?, bias.as_ref())
    }

    /// Reads the normalisation `name`.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn norm<O: Ops>(&self, ops: &O, name: &str) -> Result<O::Norm> {
        let (scale, shift) = (self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?);
        if scale.shape.len() != 1 || scale.shape != shift.shape {
            return Err(self.misfit_of(&format!("{name}.weight"), "has another shape than its shift"));
        }
        ops.norm(&scale, &shift)
    }
}

fn plain(name: Option<String>) -> Vec<Renamed> {
    name.map(|name| Renamed { name, third: None, transposed: false }).into_iter().collect()
}
