//! PyTorch's `.pth`: a pickle of tensors, read without running any code.
//!
//! Two forms: a zip archive with `data.pkl` and one file per storage (since PyTorch 1.6), and before that a stream of
//! pickles followed by the storages (`torch/serialization.py`, `_legacy_save`).

use std::{
    collections::HashMap,
    io::{Cursor, Read},
};

use half::{bf16, f16};

use super::{
    checkpoint::{Listed, network},
    pickle::{Arena, Dtype, Node, Value, unpickle},
};
use crate::{
    error::NnError,
    tensor::{StateDict, Tensor, count},
};

/// The pickle of the magic number that a legacy file begins with.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
/// The largest `data.pkl` that is unpacked. A network of 700 arrays has one of 100 KB.
const MAX_PICKLE: u64 = 32 << 20;
/// Depth of nested dictionaries to look into: a checkpoint, its parts, and what wraps the network there.
const MAX_DEPTH: usize = 6;
/// The most arrays to look at; a large network with its optimizer has some thousands.
const MAX_ARRAYS: usize = 100_000;
/// Bytes of an array's path.
const MAX_NAME: usize = 1000;

/// Whether this is the zip form.
pub fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Whether this is the form of PyTorch before 1.6.
pub fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(LEGACY_MAGIC)
}

/// Reads a state dictionary, unwrapped from the usual training checkpoints.
///
/// # Errors
/// [`NnError::Format`] if the file is damaged, or holds anything but tensors and plain values.
pub fn read(bytes: &[u8]) -> Result<StateDict, NnError> {
    if is_zip(bytes) { read_zip(bytes) } else { read_legacy(bytes) }
}

fn damaged(what: impl std::fmt::Display) -> NnError {
    NnError::Format(format!("the PyTorch file is damaged: {what}"))
}

fn read_zip(bytes: &[u8]) -> Result<StateDict, NnError> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let is_pickle = |n: &str| n.ends_with("/data.pkl") || n == "data.pkl";
    let name = archive.file_names().flatten().find(|n| is_pickle(n)).map(|n| n.into_owned());
    let Some(name) = name else {
        return Err(NnError::Format("the zip archive is not a PyTorch file: it has no data.pkl".into()));
    };
    let root = name.trim_end_matches("data.pkl").to_owned();
    let pickle = entry(&mut archive, &name, MAX_PICKLE)?;
    let mut arena = Arena::default();
    let (top, _) = unpickle(&pickle, &mut arena)?;
    let mut storages = HashMap::new();
    for (key, bytes) in arena.storage_sizes()? {
        let stored = entry(&mut archive, &format!("{root}data/{key}"), bytes)?;
        storages.insert(key, stored);
    }
    state_dict(&arena, top, &storages)
}

/// One stored file, of at most `most` bytes whatever its header says.
fn entry(archive: &mut zip::ZipArchive<Cursor<&[u8]>>, name: &str, most: u64) -> Result<Vec<u8>, NnError> {
    let file = archive.by_name(name).map_err(|e| damaged(format!("{name}: {e}")))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| damaged(format!("{name}: {e}")))?;
    if bytes.len() as u64 > most {
        return Err(damaged(format!("{name} is larger than it should be")));
    }
    Ok(bytes)
}

fn read_legacy(bytes: &[u8]) -> Result<StateDict, NnError> {
    // Magic number, protocol version, machine: nothing that is needed.
    let mut rest = bytes;
    for _ in 0..3 {
        (_, rest) = unpickle(rest, &mut Arena::default())?;
    }
    let mut arena = Arena::default();
    let (top, after) = unpickle(rest, &mut arena)?;
    let mut keys = Arena::default();
    let (list, mut after) = unpickle(after, &mut keys)?;
    let sizes: HashMap<String, u64> = arena.storage_sizes()?.into_iter().collect();
    let mut storages = HashMap::new();
    for key in keys.list(list).unwrap_or_default() {
        let key = keys.text(*key).ok_or_else(|| damaged("a storage has no name"))?;
        let Some(&bytes) = sizes.get(key) else { return Err(damaged("a storage is not used")) };
        // Each is preceded by its number of values, which the pickle has given already.
        let data = after.get(8..).and_then(|rest| rest.get(..bytes as usize));
        let data = data.ok_or_else(|| damaged("it ends before its values do"))?;
        after = &after[8 + data.len()..];
        storages.insert(key.to_owned(), data.to_vec());
    }
    state_dict(&arena, top, &storages)
}

fn state_dict(arena: &Arena, top: Value, storages: &HashMap<String, Vec<u8>>) -> Result<StateDict, NnError> {
    if arena.dict(top).is_none() {
        return Err(NnError::Format("the PyTorch file contains no dictionary of arrays".into()));
    }
    let (mut listed, mut tensors) = (Vec::new(), Vec::new());
    for (name, value) in leaves(arena, top)? {
        if let Some(Node::Tensor { storage, offset, size, stride }) = arena.node(value) {
            let whole = matches!(storage.dtype, Dtype::Whole(_));
            listed.push(Listed { name, whole, shape: size.clone() });
            tensors.push((storage, *offset, size, stride));
        }
    }
    let mut result = StateDict::default();
    for (at, name) in network(&listed)? {
        let (storage, offset, size, stride) = tensors[at];
        let Some(values) = storages.get(&storage.key) else { return Err(damaged("a storage is missing")) };
        let data = gather(values, storage.dtype, offset, size, stride)?;
        result.0.insert(name, Tensor { shape: size.clone(), data });
    }
    if result.0.is_empty() {
        return Err(NnError::Format("the PyTorch file contains no numeric arrays".into()));
    }
    Ok(result)
}

/// All values in a dictionary and the dictionaries in it, by their keys joined with dots.
fn leaves(arena: &Arena, top: Value) -> Result<Vec<(String, Value)>, NnError> {
    let mut leaves = Vec::new();
    let mut seen = 0;
    let mut open = vec![(String::new(), top, 0)];
    while let Some((path, dict, depth)) = open.pop() {
        for (key, value) in arena.dict(dict).unwrap_or_default() {
            seen += 1;
            if seen > MAX_ARRAYS {
                return Err(NnError::Format(format!("the PyTorch file lists more than {MAX_ARRAYS} values")));
            }
            let name = match (arena.text(*key), key) {
                (Some(text), _) => format!("{path}{text}"),
                (_, Value::Int(number)) => format!("{path}{number}"),
                _ => continue,
            };
            if name.len() > MAX_NAME {
                return Err(damaged("an array's name has no end"));
            }
            if arena.dict(*value).is_none() {
                leaves.push((name, *value));
            } else if depth < MAX_DEPTH {
                open.push((name + ".", *value, depth + 1));
            }
        }
    }
    Ok(leaves)
}

/// A tensor's values in row-major order.
fn gather(bytes: &[u8], dtype: Dtype, offset: usize, size: &[usize], stride: &[usize]) -> Result<Vec<f32>, NnError> {
    let n = count(size).ok_or_else(|| damaged("an array is larger than any file"))?;
    let width = dtype.bytes();
    let at = |index: usize| {
        let start = index.checked_mul(width)?;
        let b = bytes.get(start..start + width)?;
        Some(match dtype {
            Dtype::F16 => f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::Bf16 => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Dtype::F64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            Dtype::Whole(_) => return None,
        })
    };
    if stride.len() != size.len() {
        return Err(damaged("an array has a different number of strides than dimensions"));
    }
    let mut values = Vec::with_capacity(n.min(bytes.len() / width));
    let mut index = vec![0usize; size.len()];
    for _ in 0..n {
        let place =
            index.iter().zip(stride).try_fold(offset, |sum, (&i, &s)| sum.checked_add(i.checked_mul(s)?)).and_then(at);
        values.push(place.ok_or_else(|| damaged("an array reaches beyond its storage"))?);
        for side in (0..size.len()).rev() {
            index[side] += 1;
            if index[side] < size[side] {
                break;
            }
            index[side] = 0;
        }
    }
    Ok(values)
}
