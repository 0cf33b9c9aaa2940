//! GIF: blocks are walked here, pixels of the first frame come from the `gif` crate.

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{Container, broken, check_size, zeroed};
use crate::{Channels, Format, ImageError, Limits, Metadata, Samples};

const FORMAT: Format = Format::Gif;

/// A code of 12 bits stands for a string of at most 4096 pixels.
const MOST_LZW: u64 = 4096 * 8 / 12 + 1;

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let cut = ImageError::Truncated { format: FORMAT };
    let mut walk = Walk { bytes, at: 6 };
    let &[w0, w1, h0, h1, flags, ..] = walk.take(7)? else { return Err(cut) };
    let (width, height) = (side(w0, w1), side(h0, h1));
    check_size(FORMAT, width, height, limits)?;
    walk.palette(flags)?;

    let (mut frames, mut alpha, mut transparent) = (0u32, false, false);
    loop {
        match walk.bytes.get(walk.at) {
            // Many files lack the trailer and nobody minds.
            None | Some(0x3B) => break,
            Some(0x21) => {
                let label = walk.take(2)?[1];
                let first = walk.sub_blocks()?.first;
                if label == 0xF9 {
                    transparent = first.first().is_some_and(|flags| flags & 1 == 1);
                }
            }
            Some(0x2C) => {
                let &[_, x0, x1, y0, y1, w0, w1, h0, h1, flags] = walk.take(10)? else { return Err(cut) };
                walk.palette(flags)?;
                walk.take(1)?;
                let data = walk.sub_blocks()?.total as u64;
                if frames == 0 {
                    let (w, h) = (side(w0, w1), side(h0, h1));
                    check_size(FORMAT, w, h, limits)?;
                    if data * MOST_LZW < u64::from(w) * u64::from(h) {
                        return Err(cut);
                    }
                    let covers = (side(x0, x1), side(y0, y1)) == (0, 0) && w >= width && h >= height;
                    alpha = transparent || !covers;
                }
                frames += 1;
                if frames > limits.max_frames {
                    return Err(ImageError::TooManyFrames { limit: limits.max_frames });
                }
            }
            Some(_) => return Err(broken(FORMAT, "it has a block of an unknown kind")),
        }
    }
    if frames == 0 {
        return Err(cut);
    }
    let mut notes = Vec::new();
    if frames > 1 {
        notes.push("the picture is animated: only its first frame was used".into());
    }
    let channels = if alpha { Channels::Rgba } else { Channels::Rgb };
    let metadata = Metadata::default();
    Ok(Container {
        format: FORMAT,
        width,
        height,
        channels,
        bits: 8,
        orientation: 1,
        animated: frames > 1,
        metadata,
        notes,
    })
}

pub(super) fn pixels(bytes: &[u8], container: &Container) -> Result<Samples, ImageError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // Sizes have been checked; indices go into a buffer of our own.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = options.read_info(bytes).map_err(told)?;
    let frame = decoder.next_frame_info().map_err(told)?.ok_or(ImageError::Truncated { format: FORMAT })?.clone();
    let (w, h) = (usize::from(frame.width), usize::from(frame.height));
    let mut indices = zeroed::<u8>(w as u64 * h as u64)?;
    decoder.read_into_buffer(&mut indices).map_err(told)?;
    let palette = decoder.palette().map_err(told)?;

    let n = container.channels.count();
    let (width, height) = (container.width as usize, container.height as usize);
    let mut samples = zeroed::<u8>(container.samples())?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    // What lies outside of the canvas is cut off, as browsers do.
    let shown = w.min(width.saturating_sub(left));
    for (row, line) in indices.chunks_exact(w).enumerate().take(height.saturating_sub(top)) {
        let start = ((top + row) * width + left) * n;
        for (&index, pixel) in line.iter().zip(samples[start..start + shown * n].chunks_exact_mut(n)) {
            if frame.transparent == Some(index) {
                continue;
            }
            let colour = palette.get(usize::from(index) * 3..usize::from(index) * 3 + 3);
            pixel[..3].copy_from_slice(colour.ok_or_else(|| broken(FORMAT, "a colour is not in its palette"))?);
            if let Some(alpha) = pixel.get_mut(3) {
                *alpha = 255;
            }
        }
    }
    Ok(Samples::U8(samples))
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

struct SubBlocks<'a> {
    first: &'a [u8],
    total: usize,
}

impl<'a> Walk<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ImageError> {
        let taken = self.bytes.get(self.at..self.at + len).ok_or(ImageError::Truncated { format: FORMAT })?;
        self.at += len;
        Ok(taken)
    }

    /// A colour table, if the flags before it say there is one.
    fn palette(&mut self, flags: u8) -> Result<(), ImageError> {
        if flags & 0x80 != 0 {
            self.take(3 << ((flags & 7) + 1))?;
        }
        Ok(())
    }

    fn sub_blocks(&mut self) -> Result<SubBlocks<'a>, ImageError> {
        let mut found = SubBlocks { first: &[], total: 0 };
        loop {
            let len = usize::from(self.take(1)?[0]);
            if len == 0 {
                return Ok(found);
            }
            let block = self.take(len)?;
            if found.total == 0 {
                found.first = block;
            }
            found.total += len;
        }
    }
}

fn side(low: u8, high: u8) -> u32 {
    u16::from_le_bytes([low, high]).into()
}

fn told(error: DecodingError) -> ImageError {
    match error {
        DecodingError::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: FORMAT }
        }
        other => broken(FORMAT, other),
    }
}
