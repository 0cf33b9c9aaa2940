//! PNG: chunks are walked here, pixels come from the `png` crate.

use std::io::Read;

use png::Transformations;

use super::{Cancelled, Container, Pieces, be32, broken, check_size, in_words, metadata_block, orientation, zeroed};
use crate::{Channels, Format, ImageError, Limits, Metadata, Samples, Text, colour::Described, exif, iptc};

/// The highest ratio of deflate: a pair of bits stands for at most 258 bytes.
const MOST_DEFLATED: u64 = 1032;

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let format = Format::Png;
    let header = Chunks { bytes, at: 8 }.next().ok_or(ImageError::Truncated { format })??;
    if header.kind != *b"IHDR" || header.data.len() != 13 {
        return Err(broken(format, "it does not begin with its header"));
    }
    let (width, height) = (be32(header.data, 0).unwrap_or(0), be32(header.data, 4).unwrap_or(0));
    check_size(format, width, height, limits)?;
    let (depth, colour) = (header.data[8], header.data[9]);

    let mut metadata = Metadata::default();
    let mut notes = Vec::new();
    let (mut transparent, mut animated, mut may_be_cut, mut data_bytes) = (false, false, true, 0u64);
    let mut described = Described::default();
    let mut texts = Texts::new(limits);
    let mut profiled = false;
    for chunk in (Chunks { bytes, at: 8 }) {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            // The pixels may be complete without what should follow them; the codec will find out.
            Err(_) => {
                let whole = bytes.len() as u64;
                data_bytes = if data_bytes > 0 || has_pixels(bytes) { whole } else { 0 };
                break;
            }
        };
        match &chunk.kind {
            b"IDAT" => data_bytes += chunk.data.len() as u64,
            b"tRNS" => transparent = true,
            b"acTL" => animated = be32(chunk.data, 0).is_some_and(|frames| frames > 1),
            b"iCCP" if !std::mem::replace(&mut profiled, true) => metadata.icc = icc(chunk.data, limits)?,
            b"cICP" => described.cicp = chunk.data.try_into().ok(),
            b"sRGB" => described.srgb = true,
            b"gAMA" => described.gamma = be32(chunk.data, 0),
            b"cHRM" => described.chromaticities = chromaticities(chunk.data),
            b"eXIf" => {
                // The specification has the bare structure, some programs write JPEG's prefix too.
                let bare = chunk.data.strip_prefix(b"Exif\0\0").unwrap_or(chunk.data);
                metadata.exif = Some(metadata_block(bare, "EXIF", limits)?).filter(|e| exif::is_valid(e));
            }
            b"tEXt" => texts.plain(chunk.data)?,
            b"zTXt" => texts.deflated(chunk.data)?,
            b"iTXt" => texts.international(chunk.data)?,
            b"pHYs" => metadata.dpi = dpi(chunk.data),
            b"IEND" => {
                may_be_cut = false;
                break;
            }
            _ => {}
        }
    }
    if data_bytes == 0 {
        return Err(ImageError::Truncated { format });
    }
    texts.settle(&mut metadata);
    let channels = match (colour, transparent) {
        (0, false) => Channels::Gray,
        (0, true) | (4, _) => Channels::GrayAlpha,
        (2 | 3, false) => Channels::Rgb,
        (2 | 3, true) | (6, _) => Channels::Rgba,
        _ => return Err(broken(format, "its color type is unknown")),
    };
    let stored_samples = match colour {
        0 | 3 => 1,
        2 => 3,
        4 => 2,
        _ => 4,
    };
    let row = (u64::from(width) * stored_samples * u64::from(depth)).div_ceil(8);
    if data_bytes.saturating_mul(MOST_DEFLATED) < row * u64::from(height) {
        return Err(ImageError::Truncated { format });
    }
    if animated {
        notes.push("the image is animated: only its first frame was used".into());
    }
    described.settle(channels, &mut metadata, &mut notes);
    let bits = if depth == 16 { 16 } else { 8 };
    let orientation = orientation(&metadata);
    Ok(Container { format, width, height, channels, bits, orientation, animated, metadata, notes, may_be_cut })
}

pub(super) fn pixels(bytes: &[u8], container: &Container, cancelled: Cancelled<'_>) -> Result<Samples, ImageError> {
    match mended(bytes) {
        // Any error now means that the pixels are truncated as well.
        Some(mended) => {
            stored(Pieces::of(&mended, cancelled), container).map_err(|_| ImageError::Truncated { format: Format::Png })
        }
        None => stored(Pieces::of(bytes, cancelled), container).map_err(|error| match (&error, damaged(bytes)) {
            (ImageError::Broken { .. }, Some(kind)) => {
                broken(Format::Png, format!("the checksum of its {} chunk is wrong", String::from_utf8_lossy(&kind)))
            }
            _ => error,
        }),
    }
}

/// The file with an end, if it has none: what is there of a last chunk of pixels, whose checksum may be missing, and IEND.
fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut chunks = Chunks { bytes, at: 8 };
    let mut whole = chunks.at;
    loop {
        match chunks.next() {
            Some(Ok(chunk)) if chunk.kind == *b"IEND" => return None,
            Some(Ok(_)) => whole = chunks.at,
            Some(Err(_)) | None => break,
        }
    }
    let mut mended = bytes[..whole.min(bytes.len())].to_vec();
    if let (Some(b"IDAT"), Some(rest)) = (bytes.get(whole + 4..whole + 8), bytes.get(whole + 8..)) {
        let length = be32(bytes, whole)? as usize;
        append(&mut mended, *b"IDAT", &rest[..rest.len().min(length)]);
    }
    append(&mut mended, *b"IEND", &[]);
    Some(mended)
}

fn append(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    let mut sum = flate2::Crc::new();
    sum.update(&kind);
    sum.update(data);
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(sum.sum().to_be_bytes());
}

/// The first critical chunk (its name begins with a capital letter) whose checksum is wrong.
fn damaged(bytes: &[u8]) -> Option<[u8; 4]> {
    let mut chunks = Chunks { bytes, at: 8 };
    while let Some(Ok(chunk)) = chunks.next() {
        let mut sum = flate2::Crc::new();
        sum.update(&chunk.kind);
        sum.update(chunk.data);
        let stored = chunks.at.checked_sub(4).and_then(|at| be32(bytes, at));
        let named = chunk.kind[0].is_ascii_uppercase() && chunk.kind.iter().all(u8::is_ascii_alphabetic);
        if named && stored != Some(sum.sum()) {
            return Some(chunk.kind);
        }
    }
    None
}

fn stored(bytes: Pieces<'_>, container: &Container) -> Result<Samples, ImageError> {
    // Rows in flight, and the few ancillary chunks that the codec cannot skip.
    let memory = png::Limits { bytes: (64 << 20) + container.width as usize * 64 };
    let mut decoder = png::Decoder::new_with_limits(bytes, memory);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(told)?;
    let wanted = container.samples() * u64::from(container.bits / 8);
    if reader.output_buffer_size().map(|size| size as u64) != Some(wanted) {
        return Err(broken(Format::Png, "its chunks contradict each other"));
    }
    if container.bits == 8 {
        let mut samples = zeroed::<u8>(container.samples())?;
        reader.next_frame(&mut samples).map_err(told)?;
        Ok(Samples::U8(samples))
    } else {
        let mut samples = zeroed::<u16>(container.samples())?;
        reader.next_frame(bytemuck::cast_slice_mut(&mut samples)).map_err(told)?;
        samples.iter_mut().for_each(|s| *s = u16::from_be(*s));
        Ok(Samples::U16(samples))
    }
}

fn told(error: png::DecodingError) -> ImageError {
    match error {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: Format::Png }
        }
        // The codec gives only the text of its errors.
        other if other.to_string().starts_with("Corrupt deflate stream") => {
            broken(Format::Png, "its compressed data is invalid")
        }
        other => broken(Format::Png, in_words(other)),
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
}

struct Chunks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, ImageError>;

    /// `None` at the end of the bytes, an error in the middle of a chunk.
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let chunk = be32(self.bytes, self.at).and_then(|length| {
            let start = self.at.checked_add(8)?;
            let end = start.checked_add(length as usize)?;
            let kind = self.bytes.get(start - 4..start)?.try_into().ok()?;
            // Four bytes of checksum follow.
            self.bytes.get(end..end.checked_add(4)?)?;
            Some((Chunk { kind, data: self.bytes.get(start..end)? }, end + 4))
        });
        Some(match chunk {
            Some((chunk, next)) => {
                self.at = next;
                Ok(chunk)
            }
            None => {
                self.at = self.bytes.len();
                Err(ImageError::Truncated { format: Format::Png })
            }
        })
    }
}

/// iCCP: a name, a zero, the compression method, the deflated profile. A damaged one counts as none.
fn icc(data: &[u8], limits: &Limits) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(name) = data.iter().take(80).position(|&b| b == 0) else { return Ok(None) };
    let limit = limits.max_metadata;
    let (profile, whole) = inflate(data.get(name + 2..).unwrap_or_default(), limit)
        .ok_or(ImageError::MetadataTooLarge { what: "ICC profile", limit })?;
    Ok(whole.then_some(profile))
}

/// Whether a chunk of pixels begins somewhere in a file that was cut off.
fn has_pixels(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"IDAT").is_some()
}

/// Eight numbers: x and y of white, red, green and blue, times 100,000.
fn chromaticities(data: &[u8]) -> Option<[u32; 8]> {
    let numbers: Vec<u32> = (0..8).map_while(|i| be32(data, 4 * i)).collect();
    numbers.try_into().ok()
}

/// The texts of a file. However many there are and whatever they inflate to, their total is checked against the limit.
struct Texts<'a> {
    limits: &'a Limits,
    bytes: usize,
    found: Vec<Text>,
}

impl<'a> Texts<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self { limits, bytes: 0, found: Vec::new() }
    }

    /// tEXt: keyword, 0, text in Latin-1.
    fn plain(&mut self, data: &[u8]) -> Result<(), ImageError> {
        let Some((keyword, text)) = split(data) else { return Ok(()) };
        self.add(keyword, latin1(text))
    }

    /// zTXt: keyword, 0, compression method, deflated text in Latin-1.
    fn deflated(&mut self, data: &[u8]) -> Result<(), ImageError> {
        let Some((keyword, rest)) = split(data) else { return Ok(()) };
        let text = self.inflate(rest.get(1..).unwrap_or_default())?;
        text.map_or(Ok(()), |text| self.add(keyword, latin1(&text)))
    }

    /// iTXt: keyword, 0, whether compressed, method, language, 0, translated keyword, 0, text in UTF-8.
    fn international(&mut self, data: &[u8]) -> Result<(), ImageError> {
        let Some((keyword, rest)) = split(data) else { return Ok(()) };
        let (Some(&compressed), Some(rest)) = (rest.first(), rest.get(2..)) else { return Ok(()) };
        let Some(text) = rest.splitn(3, |&b| b == 0).nth(2) else { return Ok(()) };
        let text = if compressed == 1 { self.inflate(text)? } else { Some(text.to_vec()) };
        text.map_or(Ok(()), |text| self.add(keyword, String::from_utf8_lossy(&text).into_owned()))
    }

    fn add(&mut self, keyword: &[u8], text: String) -> Result<(), ImageError> {
        self.bytes += text.len();
        if self.bytes > self.limits.max_metadata {
            return Err(self.too_large());
        }
        self.found.push(Text { keyword: latin1(keyword), text });
        Ok(())
    }

    /// Damaged texts are left out, but their inflated size counts: there could be thousands.
    fn inflate(&mut self, deflated: &[u8]) -> Result<Option<Vec<u8>>, ImageError> {
        let left = self.limits.max_metadata - self.bytes;
        let (text, whole) = inflate(deflated, left).ok_or_else(|| self.too_large())?;
        if !whole {
            self.bytes += text.len();
        }
        Ok(whole.then_some(text))
    }

    fn too_large(&self) -> ImageError {
        ImageError::MetadataTooLarge { what: "text", limit: self.limits.max_metadata }
    }

    /// XMP, IPTC and EXIF go to their own fields, the rest stays text.
    fn settle(self, metadata: &mut Metadata) {
        for text in self.found {
            match text.keyword.as_str() {
                "XML:com.adobe.xmp" => metadata.xmp = Some(text.text.into_bytes()),
                "Raw profile type iptc" | "Raw profile type 8bim" => {
                    metadata.iptc =
                        raw_profile(&text.text).as_deref().and_then(iptc::of_resources).or(metadata.iptc.take());
                }
                "Raw profile type exif" | "Raw profile type APP1" => {
                    let exif =
                        raw_profile(&text.text).map(|e| e.strip_prefix(b"Exif\0\0").map_or(e.clone(), <[u8]>::to_vec));
                    metadata.exif = metadata.exif.take().or(exif.filter(|e| exif::is_valid(e)));
                }
                _ => metadata.texts.push(text),
            }
        }
    }
}

fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let zero = data.iter().take(80).position(|&b| b == 0).filter(|&zero| zero > 0)?;
    Some((&data[..zero], &data[zero + 1..]))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// As ImageMagick puts a profile into a text: a name and a length, each on a line of its own, and hexadecimal digits.
fn raw_profile(text: &str) -> Option<Vec<u8>> {
    let (_name, rest) = text.trim_start().split_once('\n')?;
    let (length, digits) = rest.trim_start().split_once('\n')?;
    let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes = digits.chunks_exact(2).map(byte).collect::<Option<Vec<u8>>>()?;
    (length.trim().parse() == Ok(bytes.len())).then_some(bytes)
}

/// Inflates up to a limit, and reports whether the data is complete. `None` if it is larger.
fn inflate(deflated: &[u8], limit: usize) -> Option<(Vec<u8>, bool)> {
    let mut out = Vec::new();
    let read = flate2::read::ZlibDecoder::new(deflated).take(limit as u64 + 1).read_to_end(&mut out);
    (out.len() <= limit).then_some((out, read.is_ok()))
}

/// pHYs: pixels per unit across, down, unit (1 is the metre).
fn dpi(data: &[u8]) -> Option<(f32, f32)> {
    let per_inch = |at| Some((f64::from(be32(data, at)?) * 0.0254) as f32);
    (data.get(8) == Some(&1)).then_some(())?;
    Some((per_inch(0)?, per_inch(4)?)).filter(|d| d.0 > 0.0 && d.1 > 0.0)
}
