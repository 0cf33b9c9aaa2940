//! The safetensors format, by its own crate.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::checkpoint::{Listed, network};
use crate::{
    error::NnError,
    tensor::{StateDict, Tensor, count},
};

/// A header of plausible length that begins as JSON does.
pub fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) <= rest.len() as u64 && rest.first() == Some(&b'{')
}

/// Reads the network's arrays: F64, F32, F16 and BF16.
///
/// # Errors
/// [`NnError::Format`] if the header is damaged or an array has another type, [`NnError::Architecture`] if arrays serve
/// no supported network.
pub fn read(bytes: &[u8]) -> Result<StateDict, NnError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| NnError::Format(format!("the safetensors file is damaged: {e}")))?;
    let views = file.tensors();
    let listed: Vec<Listed> = views
        .iter()
        .map(|(name, view)| Listed { name: name.clone(), whole: is_whole(view.dtype()), shape: view.shape().to_vec() })
        .collect();
    let mut dict = StateDict::default();
    for (at, name) in network(&listed)? {
        let view = &views[at].1;
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            other => {
                return Err(NnError::Format(format!(
                    "{name} holds {other:?}; supported types: F64, F32, F16 and BF16"
                )));
            }
        };
        if count(view.shape()) != Some(values.len()) {
            return Err(NnError::Format(format!("the size of {name} does not match its shape")));
        }
        dict.0.insert(name, Tensor { shape: view.shape().to_vec(), data: values });
    }
    Ok(dict)
}

fn is_whole(dtype: Dtype) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, BOOL | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// Writes a file: each array as F16 if that loses nothing, else as F32. The same arrays give the same bytes.
///
/// # Errors
/// [`NnError::Format`] if an array's size is not its shape's.
pub fn write(dict: &StateDict) -> Result<Vec<u8>, NnError> {
    let arrays: Vec<(&String, Dtype, &[usize], Vec<u8>)> = dict
        .0
        .iter()
        .map(|(name, tensor)| {
            let halves: Vec<f16> = tensor.data.iter().map(|&v| f16::from_f32(v)).collect();
            let lossless = halves.iter().zip(&tensor.data).all(|(h, v)| h.to_f32().to_bits() == v.to_bits());
            let (dtype, bytes) = if lossless {
                (Dtype::F16, halves.iter().flat_map(|h| h.to_le_bytes()).collect())
            } else {
                (Dtype::F32, tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect())
            };
            (name, dtype, tensor.shape.as_slice(), bytes)
        })
        .collect();
    let error = |e: safetensors::SafeTensorError| NnError::Format(format!("the weights cannot be written: {e}"));
    let views: Result<Vec<_>, _> = arrays
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.to_vec(), bytes)?)))
        .collect();
    safetensors::serialize(views.map_err(error)?, None).map_err(error)
}
