//! Files of weights: safetensors, ncnn, PyTorch. Recognised by their content, never by their name.

mod checkpoint;
mod naming;
pub mod ncnn;
mod pickle;
pub mod pytorch;
pub mod safetensors;

use std::path::Path;

use crate::{error::NnError, tensor::StateDict};

pub use crate::tensor::MAX_BYTES;

/// Reads weights of any supported kind. For ncnn, name either of the two files; the other must be beside it.
///
/// # Errors
/// [`NnError::Format`] with a sentence that says what the file is, or what is wrong in it.
pub fn read(path: &Path) -> Result<StateDict, NnError> {
    let bytes = read_file(path)?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    if ncnn::is_param(&bytes) {
        return ncnn::read(&bytes, &read_file(&path.with_extension("bin"))?);
    }
    let param = path.with_extension("param");
    if extension == "bin" && param.is_file() {
        return ncnn::read(&read_file(&param)?, &bytes);
    }
    if pytorch::is_zip(&bytes) || pytorch::is_legacy(&bytes) {
        return pytorch::read(&bytes);
    }
    if safetensors::is_safetensors(&bytes) {
        return safetensors::read(&bytes);
    }
    let what = match (&*extension, bytes.first()) {
        (_, None) => "the file is empty",
        ("onnx", _) => "ONNX is not supported",
        ("bin", _) => "an ncnn .bin file needs its .param file beside it",
        _ => "unsupported model file",
    };
    Err(NnError::Format(format!("{what}; enlarger reads safetensors, PyTorch (.pth) and ncnn (.param + .bin)")))
}

fn read_file(path: &Path) -> Result<Vec<u8>, NnError> {
    let error = |e: std::io::Error| NnError::Format(format!("cannot read {}: {e}", path.display()));
    let size = std::fs::metadata(path).map_err(error)?.len();
    if size > MAX_BYTES {
        let (mb, most) = (size >> 20, MAX_BYTES >> 20);
        return Err(NnError::Format(format!("the file is {mb} MB; the limit is {most} MB")));
    }
    std::fs::read(path).map_err(error)
}
