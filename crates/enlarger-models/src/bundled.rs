//! What is inside the binary.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::ModelInfo;

/// Name and weights; the manifest has the rest.
const WEIGHTS: [(&str, &[u8]); 5] = [
    ("realsr-df2k", include_bytes!("../../../models/weights/realsr-df2k.safetensors")),
    ("x4plus", include_bytes!("../../../models/weights/x4plus.safetensors")),
    ("x4plus-anime-6b", include_bytes!("../../../models/weights/x4plus-anime-6b.safetensors")),
    ("animevideo-v3", include_bytes!("../../../models/weights/animevideo-v3.safetensors")),
    ("photo-2x", include_bytes!("../../../models/weights/photo-2x.safetensors")),
];

#[derive(Deserialize)]
struct Manifest {
    model: Vec<ModelInfo>,
}

/// The entries of the bundled networks.
pub fn manifest() -> &'static [ModelInfo] {
    static MODELS: LazyLock<Vec<ModelInfo>> = LazyLock::new(|| {
        let manifest: Manifest =
            toml::from_str(include_str!("../../../models/manifest.toml")).expect("a test reads it");
        manifest.model.into_iter().map(|m| ModelInfo { bundled: true, ..m }).collect()
    });
    &MODELS
}

/// The weights of a bundled network, as a safetensors file.
pub fn bytes(name: &str) -> Option<&'static [u8]> {
    WEIGHTS.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}
