//! Strips and tiles: where they are in the file, and what they contain once decompressed.

use std::{collections::HashSet, io::Read, ops::Range};

use flate2::bufread::ZlibDecoder;
use weezl::{BitOrder, LzwStatus};

use super::{Directory, FORMAT, Layout, fax};
use crate::{
    ImageError,
    decode::{Cancelled, Pieces, broken, checked, jpeg},
    ifd::Order,
    picture::zeroed,
};

const COMPRESSION: u16 = 259;
const FILL_ORDER: u16 = 266;
const STRIP_OFFSETS: u16 = 273;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTES: u16 = 279;
const GROUP3_OPTIONS: u16 = 292;
const PREDICTOR: u16 = 317;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTES: u16 = 325;
const JPEG_TABLES: u16 = 347;

/// They are read again for each strip or tile. All tables that there can be have less than 3,000 bytes.
const MOST_JPEG_TABLES: usize = 1 << 13;

/// Bytes that are decompressed between two checks whether to stop.
const PIECE: usize = 1 << 20;

/// How bytes of a strip or tile become samples.
#[derive(Clone, Copy)]
enum Compression {
    None,
    Lzw,
    Deflate,
    PackBits,
    Fax(fax::Coding),
    Jpeg,
}

impl Compression {
    fn read(first: &Directory<'_>) -> Result<Self, ImageError> {
        let what = match first.number(COMPRESSION).unwrap_or(1) {
            1 => return Ok(Self::None),
            2 => return Ok(Self::Fax(fax::Coding::Huffman { align: 8 })),
            3 => {
                let two_dimensional = first.number(GROUP3_OPTIONS).is_some_and(|options| options & 1 == 1);
                return Ok(Self::Fax(fax::Coding::Group3 { two_dimensional }));
            }
            4 => return Ok(Self::Fax(fax::Coding::Group4)),
            5 => return Ok(Self::Lzw),
            7 => return Ok(Self::Jpeg),
            8 | 32946 => return Ok(Self::Deflate),
            32771 => return Ok(Self::Fax(fax::Coding::Huffman { align: 16 })),
            32773 => return Ok(Self::PackBits),
            6 => "old-style JPEG compression",
            9 | 10 | 34661 => "JBIG compression",
            32766 => "NeXT compression",
            32809 => "ThunderScan compression",
            33003 | 33004 | 33005 | 34712 => "JPEG 2000 compression",
            34676 | 34677 => "SGI LogLuv compression",
            34887 => "LERC compression",
            34925 => "LZMA compression",
            34926 | 50000 => "Zstandard compression",
            34927 | 50001 => "WebP compression",
            34933 | 34934 => "PNG compression",
            22610 | 34892 | 34941 => "JPEG XR compression",
            50002 | 52546 => "JPEG XL compression",
            n => return Err(unsupported(format!("compression type {n}"))),
        };
        Err(unsupported(what.into()))
    }

    /// Bits of output that a byte of input can stand for, at most; fax codes have no such limit.
    fn most_bits(self) -> Option<u64> {
        Some(match self {
            Self::None => 8,
            // A code of 12 bits is a string of at most 4096 bytes.
            Self::Lzw => 8 * 2731,
            Self::Deflate => 8 * 1032,
            Self::PackBits => 8 * 64,
            // A bit per block of 64 pixels and component.
            Self::Jpeg => 8 * 8 * 64,
            Self::Fax(_) => return None,
        })
    }
}

/// The strips or tiles of a picture.
pub(super) struct Chunks<'a> {
    bytes: &'a [u8],
    order: Order,
    /// Pixels of each.
    width: usize,
    height: usize,
    /// How many there are side by side, one below the other, and of such planes.
    across: usize,
    down: usize,
    planes: usize,
    /// Where their bytes are: from left to right, from top to bottom, plane by plane.
    ranges: Vec<Range<usize>>,
    compression: Compression,
    /// The first pixel is in the lowest bit.
    lowest_first: bool,
    /// Samples are differences to the pixel before.
    predicted: bool,
    jpeg_tables: &'a [u8],
    tiled: bool,
}

impl<'a> Chunks<'a> {
    /// Checks every strip or tile against the file's length, and all of them against the size of the result.
    pub fn read(bytes: &'a [u8], first: &Directory<'a>, layout: &Layout) -> Result<Self, ImageError> {
        let cut = || ImageError::Truncated { format: FORMAT };
        let number = |tag| first.number(tag).unwrap_or(0);
        let (width, height) = (u64::from(layout.width), u64::from(layout.height));
        let tiled = first.get(TILE_OFFSETS).is_some();
        let (offsets, lengths, chunk) = if tiled {
            (TILE_OFFSETS, TILE_BYTES, (number(TILE_WIDTH), number(TILE_HEIGHT)))
        } else {
            let rows = first.number(ROWS_PER_STRIP).unwrap_or(height).min(height);
            (STRIP_OFFSETS, STRIP_BYTES, (width, rows))
        };
        // A tile far larger than the picture would need a far larger buffer.
        if chunk.0 == 0 || chunk.1 == 0 || chunk.0 > width + 4096 || chunk.1 > height + 4096 {
            return Err(broken(FORMAT, "the size of its strips or tiles is invalid"));
        }
        let planes = if layout.planar { layout.samples } else { 1 };
        let mut chunks = Self {
            bytes,
            order: first.structure.order,
            width: chunk.0 as usize,
            height: chunk.1 as usize,
            across: width.div_ceil(chunk.0) as usize,
            down: height.div_ceil(chunk.1) as usize,
            planes,
            ranges: Vec::new(),
            compression: Compression::read(first)?,
            lowest_first: first.number(FILL_ORDER) == Some(2),
            predicted: false,
            jpeg_tables: first.bytes(JPEG_TABLES).unwrap_or_default(),
            tiled,
        };
        chunks.predicted = chunks.predictor(first, layout)?;
        chunks.check_samples(layout)?;
        let wanted = chunks.across * chunks.down * planes;
        let (offsets, mut lengths) = (first.numbers(offsets, wanted), first.numbers(lengths, wanted));
        lengths.resize(offsets.len(), 0);
        if offsets.len() < wanted {
            return Err(cut());
        }
        chunks.ranges = chunks.ranges(&offsets, &lengths, layout).ok_or_else(cut)?;
        chunks.check_bytes(layout)?;
        Ok(chunks)
    }

    fn predictor(&self, first: &Directory<'_>, layout: &Layout) -> Result<bool, ImageError> {
        // Other compressions have no predictor, whatever the tag says.
        if !matches!(self.compression, Compression::Lzw | Compression::Deflate) {
            return Ok(false);
        }
        match first.number(PREDICTOR) {
            None | Some(1) => Ok(false),
            Some(2) if layout.bits >= 8 => Ok(true),
            Some(2) => Err(unsupported(format!("a predictor with {} bits per sample", layout.bits))),
            Some(n) => Err(unsupported(format!("predictor type {n}"))),
        }
    }

    fn check_samples(&self, layout: &Layout) -> Result<(), ImageError> {
        let per_pixel = layout.samples / self.planes;
        match self.compression {
            Compression::Fax(_) if layout.bits != 1 || per_pixel != 1 => {
                Err(broken(FORMAT, "fax compression with more than 1 bit per pixel"))
            }
            Compression::Jpeg if layout.bits != 8 => {
                Err(unsupported(format!("JPEG compression with {} bits per sample", layout.bits)))
            }
            _ if self.tiled && !(self.width * per_pixel * usize::from(layout.bits)).is_multiple_of(8) => {
                Err(unsupported("tiles that end in the middle of a byte".into()))
            }
            _ => Ok(()),
        }
    }

    /// Where bytes are. Some programs leave lengths out, or write 0: data then goes on to the next one's, or to the end.
    fn ranges(&self, offsets: &[u64], lengths: &[u64], layout: &Layout) -> Option<Vec<Range<usize>>> {
        let mut starts = offsets.to_vec();
        starts.sort_unstable();
        let whole = self.row_bytes(layout) as u64 * self.height as u64;
        let range = |(&start, &length): (&u64, &u64)| {
            let mut end = start.checked_add(length)?;
            if length == 0 {
                let next = starts.partition_point(|&other| other <= start);
                end = starts.get(next).copied().unwrap_or(self.bytes.len() as u64);
                if matches!(self.compression, Compression::None) {
                    end = end.min(start.saturating_add(whole));
                }
            }
            let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
            self.bytes.get(range.clone()).filter(|data| !data.is_empty() && start > 0).map(|_| range)
        };
        offsets.iter().zip(lengths).map(range).collect()
    }

    /// Each byte of the file is looked at once: parts may be shared as a whole, but not overlap.
    fn check_bytes(&self, layout: &Layout) -> Result<(), ImageError> {
        let distinct: HashSet<&Range<usize>> = self.ranges.iter().collect();
        let held: u64 = distinct.iter().map(|range| range.len() as u64).sum();
        if held > self.bytes.len() as u64 {
            return Err(broken(FORMAT, "its strips or tiles overlap"));
        }
        if self.jpeg_tables.len() > MOST_JPEG_TABLES {
            return Err(broken(FORMAT, "its JPEG tables are far too long"));
        }
        let row = u64::from(layout.width) * layout.samples as u64 * u64::from(layout.bits);
        // Shared parts count as often as they are used.
        let used: u64 = self.ranges.iter().map(|range| range.len() as u64).fold(0, u64::saturating_add);
        if self.compression.most_bits().is_some_and(|most| used.saturating_mul(most) < row * u64::from(layout.height)) {
            return Err(ImageError::Truncated { format: FORMAT });
        }
        Ok(())
    }

    /// Bytes of a row of one strip or tile.
    fn row_bytes(&self, layout: &Layout) -> usize {
        (self.width * (layout.samples / self.planes) * usize::from(layout.bits)).div_ceil(8)
    }

    /// Decompresses all into `raw`: rows of `row` bytes, plane after plane; samples of 16 bits in this machine's order.
    pub fn decode(
        &self,
        layout: &Layout,
        row: usize,
        raw: &mut [u8],
        cancelled: Cancelled<'_>,
    ) -> Result<(), ImageError> {
        let (row_bytes, height) = (self.row_bytes(layout), layout.height as usize);
        let mut buffer = zeroed::<u8>(row_bytes as u64 * self.height as u64)?;
        let mut held = None;
        let place = |i: usize| {
            let (plane, place) = (i / (self.across * self.down), i % (self.across * self.down));
            (plane, place / self.across * self.height, place % self.across * row_bytes)
        };
        let rows = |i: usize| self.height.min(height - place(i).1);
        let stored = |i: usize| if self.tiled { self.height } else { rows(i) };
        // In the order of the file, so that what several places share is decompressed once.
        let mut order: Vec<usize> = (0..self.ranges.len()).collect();
        order.sort_by_key(|&i| (self.ranges[i].start, self.ranges[i].end, stored(i)));
        for i in order {
            checked(cancelled)?;
            let (plane, top, left) = place(i);
            let (rows, stored) = (rows(i), stored(i));
            let chunk = &mut buffer[..stored * row_bytes];
            let wanted = Some((&self.ranges[i], stored));
            if held != wanted {
                self.decompress(&self.bytes[self.ranges[i].clone()], layout, chunk, cancelled)?;
                held = wanted;
            }
            let shown = row_bytes.min(row - left);
            for (y, from) in chunk.chunks_exact(row_bytes).take(rows).enumerate() {
                raw[(plane * height + top + y) * row + left..][..shown].copy_from_slice(&from[..shown]);
            }
        }
        Ok(())
    }

    fn decompress(
        &self,
        data: &[u8],
        layout: &Layout,
        to: &mut [u8],
        cancelled: Cancelled<'_>,
    ) -> Result<(), ImageError> {
        let cut = || ImageError::Truncated { format: FORMAT };
        let damaged = || broken(FORMAT, "its compressed data is invalid");
        let reversed: Vec<u8>;
        let mut data = data;
        // JPEG is a stream of bytes, whose bits are never reversed.
        if self.lowest_first && !matches!(self.compression, Compression::Jpeg) {
            reversed = data.iter().map(|byte| byte.reverse_bits()).collect();
            data = &reversed;
        }
        match self.compression {
            Compression::None => to.copy_from_slice(data.get(..to.len()).ok_or_else(cut)?),
            Compression::Lzw => {
                // Before TIFF 6.0 some programs wrote codes from the lowest bit on. All begin with the code 256 in 9 bits.
                let old = data.starts_with(&[0]) && data.get(1).is_some_and(|byte| byte & 1 == 1);
                let mut decoder = if old {
                    weezl::decode::Decoder::new(BitOrder::Lsb, 8)
                } else {
                    weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8)
                };
                let mut filled = 0;
                while filled < to.len() {
                    checked(cancelled)?;
                    let piece = to.len().min(filled + PIECE);
                    let step = decoder.decode_bytes(data, &mut to[filled..piece]);
                    data = &data[step.consumed_in..];
                    filled += step.consumed_out;
                    match step.status {
                        Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
                        Ok(_) if filled < to.len() => return Err(cut()),
                        Ok(_) => {}
                        Err(_) => return Err(damaged()),
                    }
                }
            }
            Compression::Deflate => {
                let read = ZlibDecoder::new(Pieces::of(data, cancelled)).read_exact(to);
                read.map_err(|error| match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => cut(),
                    _ => damaged(),
                })?;
            }
            Compression::PackBits => unpack_bits(data, to).ok_or_else(cut)?,
            Compression::Fax(coding) => {
                to.fill(0);
                fax::decode(data, coding, self.width, to).map_err(|fault| match fault {
                    fax::Fault::Short => cut(),
                    fax::Fault::Damaged => damaged(),
                    fax::Fault::Uncompressed => unsupported("fax compression with uncompressed parts".into()),
                })?;
            }
            Compression::Jpeg => self.jpeg(data, layout, to, cancelled)?,
        }
        if layout.bits == 16 && self.order == Order::Big && cfg!(target_endian = "little")
            || layout.bits == 16 && self.order == Order::Little && cfg!(target_endian = "big")
        {
            to.as_chunks_mut::<2>().0.iter_mut().for_each(|sample| sample.reverse());
        }
        if self.predicted {
            let per_pixel = layout.samples / self.planes;
            for row in to.chunks_exact_mut(self.row_bytes(layout)) {
                add_up(row, per_pixel, layout.bits);
            }
        }
        Ok(())
    }

    /// A strip or tile that is a JPEG stream; what all have in common is in a stream of tables before it.
    fn jpeg(&self, data: &[u8], layout: &Layout, to: &mut [u8], cancelled: Cancelled<'_>) -> Result<(), ImageError> {
        let tables = self.jpeg_tables.strip_suffix(&[0xFF, 0xD9]).unwrap_or(self.jpeg_tables);
        let stream = if tables.is_empty() {
            data.to_vec()
        } else {
            [tables, data.strip_prefix(&[0xFF, 0xD8]).unwrap_or(data)].concat()
        };
        let per_pixel = layout.samples / self.planes;
        // A JPEG file of its own might claim any size.
        let (width, height) = jpeg::frame_size(&stream)?;
        let rows = to.len() / self.row_bytes(layout);
        if width != self.width || !(rows..=self.height).contains(&height) {
            return Err(broken(FORMAT, "an embedded JPEG has the wrong size"));
        }
        let samples = jpeg::components(&stream, per_pixel, cancelled)?;
        to.copy_from_slice(samples.get(..to.len()).ok_or_else(|| {
            broken(
                FORMAT,
                "an embedded JPEG has different \
            color components",
            )
        })?);
        Ok(())
    }
}

/// TIFF 6.0, section 9.
fn unpack_bits(mut data: &[u8], mut to: &mut [u8]) -> Option<()> {
    while !to.is_empty() {
        let (&head, rest) = data.split_first()?;
        let head = head.cast_signed();
        data = rest;
        if head == -128 {
            continue;
        }
        let count = usize::from(head.unsigned_abs()) + 1;
        let shown = count.min(to.len());
        let (now, later) = to.split_at_mut(shown);
        if head < 0 {
            now.fill(*data.first()?);
            data = &data[1..];
        } else {
            now.copy_from_slice(data.get(..shown)?);
            data = data.get(count..).unwrap_or_default();
        }
        to = later;
    }
    Some(())
}

/// From differences to samples.
fn add_up(row: &mut [u8], per_pixel: usize, bits: u8) {
    if bits == 8 {
        for i in per_pixel..row.len() {
            row[i] = row[i].wrapping_add(row[i - per_pixel]);
        }
        return;
    }
    let samples = row.as_chunks_mut::<2>().0;
    for i in per_pixel..samples.len() {
        let sum = u16::from_ne_bytes(samples[i]).wrapping_add(u16::from_ne_bytes(samples[i - per_pixel]));
        samples[i] = sum.to_ne_bytes();
    }
}

fn unsupported(what: String) -> ImageError {
    ImageError::Unsupported { format: FORMAT, what }
}
