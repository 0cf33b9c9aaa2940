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
    count,
    pickle::{Arena, Dtype, Node, Value, unpickle},
};
use crate::{
    error::NnError,
    tensor::{StateDict, Tensor},
};

/// The pickle of the magic number that a legacy file begins with.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
/// Keys under which training code keeps the weights, the best first.
const WRAPPERS: [&str; 7] = ["params_ema", "params", "state_dict", "model_state_dict", "model", "net", "generator"];
/// The largest `data.pkl` that is unpacked. A network of 700 arrays has one of 100 KB.
const MAX_PICKLE: u64 = 32 << 20;

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
        return Err(NnError::Format("the zip archive is no PyTorch file: it has no data.pkl".into()));
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
        // The number of values stands before them; the pickle has told it already.
        let data = after.get(8..).and_then(|rest| rest.get(..bytes as usize));
        let data = data.ok_or_else(|| damaged("it ends before its values do"))?;
        after = &after[8 + data.len()..];
        storages.insert(key.to_owned(), data.to_vec());
    }
    state_dict(&arena, top, &storages)
}

fn state_dict(arena: &Arena, top: Value, storages: &HashMap<String, Vec<u8>>) -> Result<StateDict, NnError> {
    let mut dict = top;
    // A checkpoint may wrap a wrapper, and nobody wraps deeper.
    for _ in 0..3 {
        let inner = WRAPPERS.iter().find_map(|name| arena.item(dict, name).filter(|v| arena.dict(*v).is_some()));
        match inner {
            Some(value) => dict = value,
            None => break,
        }
    }
    let Some(items) = arena.dict(dict) else {
        return Err(NnError::Format("the PyTorch file holds no dictionary of arrays".into()));
    };
    let mut result = StateDict::default();
    for (key, value) in items {
        let (Some(name), Some(Node::Tensor { storage, offset, size, stride })) = (arena.text(*key), arena.node(*value))
        else {
            continue;
        };
        let Some(values) = storages.get(&storage.key) else { return Err(damaged("a storage is missing")) };
        if let Some(data) = gather(values, storage.dtype, *offset, size, stride)? {
            let name = name.strip_prefix("module.").unwrap_or(name).to_owned();
            result.0.insert(name, Tensor { shape: size.clone(), data });
        }
    }
    if result.0.is_empty() {
        return Err(NnError::Format("the PyTorch file holds no arrays of numbers".into()));
    }
    Ok(result)
}

/// A tensor's values in row-major order; `None` for whole numbers, which no network here needs.
fn gather(
    bytes: &[u8],
    dtype: Dtype,
    offset: usize,
    size: &[usize],
    stride: &[usize],
) -> Result<Option<Vec<f32>>, NnError> {
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
            Dtype::Whole(_) => 0.0,
        })
    };
    if matches!(dtype, Dtype::Whole(_)) {
        return Ok(None);
    }
    if stride.len() != size.len() {
        return Err(damaged("an array has another number of strides than sides"));
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
    Ok(Some(values))
}
