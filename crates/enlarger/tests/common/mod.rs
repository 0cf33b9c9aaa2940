//! A folder with pictures to try commands on.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name)
}

/// A folder with a small real photo, 96x72, as PNG and JPEG.
pub fn folder() -> TempDir {
    folder_of(96, 72)
}

/// A folder with a real photo of this size, as PNG and JPEG.
pub fn folder_of(width: u32, height: u32) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bytes = fs::read(sample("brushes.png")).expect("the sample is there");
    let limits = enlarger_image::Limits::default();
    let picture = enlarger_image::decode(&bytes, &limits).expect("the sample is a picture").picture;
    let small =
        enlarger_pipeline::resize(&picture, width, height, enlarger_pipeline::Resampling::Box).expect("there is room");
    for (name, format) in [("photo.png", enlarger_image::Format::Png), ("photo.jpg", enlarger_image::Format::Jpeg)] {
        let mut file = fs::File::create(folder.path().join(name)).expect("the folder can be written");
        let options = enlarger_image::EncodeOptions { format, ..Default::default() };
        enlarger_image::encode(&small, &options, &mut file).expect("it can be encoded");
    }
    folder
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
