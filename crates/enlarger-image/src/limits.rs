//! How much a file may cost.

/// How much a file may cost. Held against what a file's own headers say, before any decoder is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the file.
    pub max_bytes: u64,
    /// Most pixels, width times height.
    pub max_pixels: u64,
    /// Longest side in pixels.
    pub max_side: u32,
    /// Most bytes of each of ICC profile, EXIF and XMP, after inflation.
    pub max_metadata: usize,
    /// Most frames of an animation, though only the first is decoded: more is a film or an attack.
    pub max_frames: u32,
}

impl Default for Limits {
    /// For files that strangers send to a server.
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_pixels: 64_000_000,
            max_side: 32_768,
            max_metadata: 8 << 20,
            max_frames: 10_000,
        }
    }
}

impl Limits {
    /// For files that a person names on their own machine.
    pub fn for_own_files() -> Self {
        Self {
            max_bytes: 2 << 30,
            max_pixels: 1_000_000_000,
            max_side: 300_000,
            max_metadata: 64 << 20,
            max_frames: 1_000_000,
        }
    }
}
