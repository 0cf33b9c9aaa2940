//! GIF: blocks are walked here, pixels of the first frame come from the `gif` crate.

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{Cancelled, Container, Pieces, broken, check_size, in_words, zeroed};
use crate::{Channels, Format, ImageError, Limits, Metadata, Samples};

const FORMAT: Format = Format::Gif;

/// A code of 12 bits stands for a string of at most 4096 pixels.
const MOST_LZW: u64 = 4096 * 8 / 12 + 1;

/// The first frame of a file.
struct First<'a> {
    width: u32,
    height: u32,
    /// Signature, sizes of the canvas and the palette for all frames.
    start: &'a [u8],
    /// The frame's descriptor, palette and data.
    frame: &'a [u8],
    transparent: Option<u8>,
    /// Whether it leaves none of the canvas free.
    covers: bool,
    frames: u32,
    /// The file ends, or becomes invalid, after the first frame.
    cut: bool,
}

impl<'a> First<'a> {
    fn find(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImageError> {
        let mut walk = Walk { bytes, at: 6 };
        let &[w0, w1, h0, h1, flags, ..] = walk.take(7)? else {
            return Err(ImageError::Truncated { format: FORMAT });
        };
        let (mut width, mut height) = (side(w0, w1), side(h0, h1));
        walk.palette(flags)?;
        let start = &bytes[..walk.at];
        let mut transparent = None;
        let from = loop {
            walk.skip_zeros();
            let from = walk.at;
            match walk.next_block()? {
                Block::Control(index) => transparent = index,
                Block::Other => {}
                Block::Frame => break from,
                Block::End => return Err(ImageError::Truncated { format: FORMAT }),
                Block::Unknown => return Err(broken(FORMAT, "it has a block of an unknown kind")),
            }
        };
        let frame = &bytes[from..walk.at];
        let corner = (side(frame[1], frame[2]), side(frame[3], frame[4]));
        let (w, h) = (side(frame[5], frame[6]), side(frame[7], frame[8]));
        // A canvas without a size is as large as the frame needs, as browsers have it.
        if width == 0 || height == 0 {
            (width, height) = (corner.0 + w, corner.1 + h);
        }
        let covers = corner == (0, 0) && w >= width && h >= height;
        let mut first = Self { width, height, start, frame, transparent, covers, frames: 1, cut: false };
        loop {
            match walk.next_block() {
                Ok(Block::Frame) => first.frames += 1,
                Ok(Block::End) => return Ok(first),
                Ok(Block::Control(_) | Block::Other) => {}
                Ok(Block::Unknown) | Err(_) => return Ok(Self { cut: true, ..first }),
            }
            if first.frames > limits.max_frames {
                return Err(ImageError::TooManyFrames { limit: limits.max_frames });
            }
        }
    }

    /// A file of this frame alone.
    fn alone(&self) -> Vec<u8> {
        let mut file = [self.start, self.frame, &[0x3B]].concat();
        let sides = [self.width, self.height].map(|side| (side.min(0xFFFF) as u16).to_le_bytes());
        file[6..10].copy_from_slice(sides.as_flattened());
        file
    }
}

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let first = First::find(bytes, limits)?;
    let First { width, height, frame, frames, .. } = first;
    check_size(FORMAT, width, height, limits)?;
    let (w, h) = (side(frame[5], frame[6]), side(frame[7], frame[8]));
    check_size(FORMAT, w, h, limits)?;
    if frame.len() as u64 * MOST_LZW < u64::from(w) * u64::from(h) {
        return Err(ImageError::Truncated { format: FORMAT });
    }
    let alpha = first.transparent.is_some() || !first.covers;
    let mut notes = Vec::new();
    if frames > 1 {
        notes.push("the image is animated: only its first frame was used".into());
    }
    if first.cut {
        notes.push("the file is damaged after its first frame".into());
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
        may_be_cut: false,
    })
}

pub(super) fn pixels(
    bytes: &[u8],
    container: &Container,
    limits: &Limits,
    cancelled: Cancelled<'_>,
) -> Result<Samples, ImageError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // Sizes have been checked; indices go into a buffer of our own.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let first = First::find(bytes, limits)?;
    let file = first.alone();
    let mut decoder = options.read_info(Pieces::of(&file, cancelled)).map_err(told)?;
    let frame = decoder.next_frame_info().map_err(told)?.ok_or(ImageError::Truncated { format: FORMAT })?.clone();
    let (w, h) = (usize::from(frame.width), usize::from(frame.height));
    let mut indices = zeroed::<u8>(w as u64 * h as u64)?;
    decoder.read_into_buffer(&mut indices).map_err(told)?;
    let palette = decoder.palette().map_err(told)?;

    let n = container.channels.count();
    let mut samples = zeroed::<u8>(container.samples())?;
    // Pixels outside the canvas are cut off, as in browsers.
    let canvas = samples.chunks_exact_mut(container.width as usize * n).skip(frame.top.into());
    for (line, row) in indices.chunks_exact(w).zip(canvas) {
        for (&index, pixel) in line.iter().zip(row.chunks_exact_mut(n).skip(frame.left.into())) {
            if first.transparent == Some(index) {
                continue;
            }
            let colour = palette.get(usize::from(index) * 3..usize::from(index) * 3 + 3);
            pixel[..3].copy_from_slice(colour.ok_or_else(|| broken(FORMAT, "a pixel's color is not in its palette"))?);
            if let Some(alpha) = pixel.get_mut(3) {
                *alpha = 255;
            }
        }
    }
    Ok(Samples::U8(samples))
}

/// What lies between signature and trailer.
enum Block {
    /// What the next frame needs to know: the index that is transparent.
    Control(Option<u8>),
    Frame,
    Other,
    /// The trailer, or the end of the file: many files lack the trailer, and programs accept that.
    End,
    Unknown,
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ImageError> {
        let taken = self.bytes.get(self.at..self.at + len).ok_or(ImageError::Truncated { format: FORMAT })?;
        self.at += len;
        Ok(taken)
    }

    /// Some programs leave zeros between blocks.
    fn skip_zeros(&mut self) {
        while self.bytes.get(self.at) == Some(&0) {
            self.at += 1;
        }
    }

    /// Skips to the end of the next block.
    fn next_block(&mut self) -> Result<Block, ImageError> {
        self.skip_zeros();
        match self.bytes.get(self.at) {
            None | Some(0x3B) => Ok(Block::End),
            Some(0x21) => {
                let label = self.take(2)?[1];
                let first = self.sub_blocks()?;
                Ok(match *first {
                    [flags, _, _, index, ..] if label == 0xF9 => Block::Control((flags & 1 == 1).then_some(index)),
                    _ => Block::Other,
                })
            }
            Some(0x2C) => {
                let flags = self.take(10)?[9];
                self.palette(flags)?;
                self.take(1)?;
                self.sub_blocks()?;
                Ok(Block::Frame)
            }
            Some(_) => Ok(Block::Unknown),
        }
    }

    /// A colour table, if the flags before it say there is one.
    fn palette(&mut self, flags: u8) -> Result<(), ImageError> {
        if flags & 0x80 != 0 {
            self.take(3 << ((flags & 7) + 1))?;
        }
        Ok(())
    }

    /// The first of some blocks of data that end with an empty one.
    fn sub_blocks(&mut self) -> Result<&'a [u8], ImageError> {
        let mut first: &[u8] = &[];
        loop {
            let len = usize::from(self.take(1)?[0]);
            if len == 0 {
                return Ok(first);
            }
            let block = self.take(len)?;
            if first.is_empty() {
                first = block;
            }
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
        other => broken(FORMAT, in_words(other)),
    }
}
