//! Ground truth for full-reference metrics.

use std::path::{Path, PathBuf};

use anyhow::Context;
use enlarger_image::{Channels, Limits, Picture, Samples};
use enlarger_pipeline::{Crop, Resampling, resize};

/// The photos below a folder, sorted by name.
pub fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(list(&path)?);
        } else if path.extension().is_some_and(|e| ["jpg", "jpeg", "png"].iter().any(|x| e.eq_ignore_ascii_case(x))) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a picture as 8-bit RGB.
pub fn load(path: &Path) -> anyhow::Result<Picture> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let decoded =
        enlarger_image::decode(&bytes, &Limits::for_own_files()).with_context(|| path.display().to_string())?;
    Ok(rgb8(decoded.picture))
}

/// Any picture as opaque 8-bit RGB without metadata.
pub fn rgb8(picture: Picture) -> Picture {
    let picture = picture.into_depth(8).expect("there is room");
    let Samples::U8(samples) = &picture.samples else { unreachable!("just made 8 bits deep") };
    let n = picture.channels.count();
    let rgb = samples.chunks_exact(n).flat_map(|p| if n < 3 { [p[0]; 3] } else { [p[0], p[1], p[2]] }).collect();
    Picture {
        width: picture.width,
        height: picture.height,
        channels: Channels::Rgb,
        samples: Samples::U8(rgb),
        metadata: Default::default(),
    }
}

/// The centre of the photo after halving: halving hides the damage of sensor and codec, so that the rest is sharp to the last pixel.
pub fn ground_truth(photo: &Picture, width: u32, height: u32) -> Picture {
    let half = resize(photo, photo.width / 2, photo.height / 2, Resampling::Lanczos3).expect("there is room");
    let (w, h) = (width.min(half.width) / 16 * 16, height.min(half.height) / 16 * 16);
    cut(&half, Crop { x: (half.width - w) / 2, y: (half.height - h) / 2, width: w, height: h })
}

/// What `benches/drawings.py` has drawn of a drawing, a page or a screen.
pub fn drawn(screenshot: &Picture) -> Picture {
    cut(screenshot, Crop { x: 0, y: 0, width: 640, height: 480 })
}

/// A part of an 8-bit RGB picture.
pub fn cut(picture: &Picture, crop: Crop) -> Picture {
    let Samples::U8(samples) = &picture.samples else { unreachable!("8-bit pictures only") };
    let row = picture.width as usize * 3;
    let (x, w) = (crop.x as usize * 3, crop.width as usize * 3);
    let rows = samples.chunks_exact(row).skip(crop.y as usize).take(crop.height as usize);
    let samples = rows.flat_map(|line| &line[x..x + w]).copied().collect();
    Picture {
        width: crop.width,
        height: crop.height,
        channels: Channels::Rgb,
        samples: Samples::U8(samples),
        metadata: Default::default(),
    }
}
