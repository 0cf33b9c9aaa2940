//! JPEG: markers are walked here, pixels come from libjpeg-turbo.
//!
//! A file is complete if its scans cover every component, and the data of each scan covers every sample. Nothing else
//! is required: bytes between segments, a missing end mark, and anything after the last scan are harmless. Faults
//! inside the data of a scan (missing samples, invalid codes, missing restart markers) make the file damaged, because
//! everything after them may be wrong.

mod codec;

use super::{Cancelled, Container, broken, check_size, orientation};
use crate::{Channels, Format, ImageError, Limits, Metadata, Samples, Text, colour::Space, exif, iptc, with_samples};
use codec::{Colours, Order};

/// Every scan visits all blocks, so a small file with many scans can keep a decoder busy for hours. Encoders write
/// about 10.
const MOST_SCANS: u32 = 200;

/// This many zeros at the end of a file without an end mark are not samples, but disk space that was never written.
const ZEROS: usize = 64;

const FORMAT: Format = Format::Jpeg;
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const ICC: &[u8] = b"ICC_PROFILE\0";

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let mut metadata = Metadata::default();
    let mut jfif_dpi = None;
    let mut icc = IccParts::default();
    let stream = Stream::walk(bytes, limits, |marker, data| {
        match marker {
            0xE0 if data.starts_with(b"JFIF\0") => jfif_dpi = density(data),
            0xE1 if data.starts_with(EXIF) && metadata.exif.is_none() => {
                metadata.exif = Some(&data[EXIF.len()..]).filter(|e| exif::is_valid(e)).map(<[u8]>::to_vec);
            }
            0xE1 if data.starts_with(XMP) => metadata.xmp = Some(data[XMP.len()..].to_vec()),
            0xE2 if data.starts_with(ICC) => icc.add(&data[ICC.len()..], limits)?,
            0xDB => metadata.jpeg_quality = metadata.jpeg_quality.or_else(|| quality(data)),
            0xED if data.starts_with(iptc::PHOTOSHOP) && metadata.iptc.is_none() => {
                metadata.iptc = iptc::of_resources(&data[iptc::PHOTOSHOP.len()..]);
            }
            0xFE => {
                let text = String::from_utf8_lossy(data).trim_end_matches('\0').to_owned();
                metadata.texts.push(Text { keyword: "Comment".into(), text });
            }
            _ => {}
        }
        Ok(())
    })?;
    metadata.icc = icc.join();
    metadata.dpi = jfif_dpi.or_else(|| metadata.exif.as_deref().and_then(exif::dpi));
    let Frame { width, height, precision, .. } = stream.frame;
    let orientation = orientation(&metadata);
    Ok(Container {
        format: FORMAT,
        width,
        height,
        channels: if stream.frame.components.len() == 1 { Channels::Gray } else { Channels::Rgb },
        bits: if precision <= 8 { 8 } else { 16 },
        orientation,
        animated: false,
        metadata,
        notes: Vec::new(),
        may_be_cut: stream.ends == End::File,
    })
}

/// The pixels, and what their samples mean. Faults that may be harmless are reported in a note.
pub(super) fn pixels(
    bytes: &[u8],
    limits: &Limits,
    notes: &mut Vec<String>,
    cancelled: Cancelled<'_>,
) -> Result<(Samples, Space), ImageError> {
    let mut adobe = false;
    let stream = Stream::walk(bytes, limits, |marker, data| {
        adobe |= marker == 0xEE && data.starts_with(b"Adobe");
        Ok(())
    })?;
    let frame = &stream.frame;
    let decoded = codec::decode(&Order {
        bytes: &bytes[..stream.end],
        width: frame.width,
        height: frame.height,
        components: frame.components.len() as u8,
        precision: frame.precision,
        colours: Colours::ByMarkers,
        most_scans: MOST_SCANS,
        cancelled,
    })?;
    stream.judge(bytes, &decoded, notes)?;
    let mut samples = decoded.samples;
    if frame.components.len() != 4 {
        return Ok((samples, Space::Display));
    }
    // Adobe's programs store inks inverted: 255 means none. Their files, and those of programs that imitate them, have
    // this segment.
    if adobe {
        with_samples!(&mut samples, samples => samples.iter_mut().for_each(|s| *s = !*s));
    }
    Ok((samples, Space::Cmyk))
}

/// What the markers of a file declare.
struct Stream {
    frame: Frame,
    /// Where the last scan ends.
    end: usize,
    ends: End,
    /// Whether the scans cover every bit of every coefficient. Sequential files do.
    complete: bool,
}

/// What comes after the last scan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Image,
    OtherMarker,
    File,
}

impl Stream {
    /// Visits the segments up to the last one that pixels need; `each` gets their markers and data.
    fn walk<'a>(
        bytes: &'a [u8],
        limits: &Limits,
        mut each: impl FnMut(u8, &'a [u8]) -> Result<(), ImageError>,
    ) -> Result<Self, ImageError> {
        let mut frame: Option<Frame> = None;
        let (mut scans, mut scan_bytes) = (0, 0u64);
        let mut at = 2;
        let ends = loop {
            let (marker, data, next) = segment(bytes, at)?;
            match marker {
                0xD9 => break End::Image,
                0xC0..=0xC3 | 0xC9..=0xCA if frame.is_none() => {
                    let found = Frame::read(marker, data)?;
                    check_size(FORMAT, found.width, found.height, limits)?;
                    found.check()?;
                    frame = Some(found);
                }
                0xC5..=0xC7 | 0xCD..=0xCF => return Err(unsupported("hierarchical coding")),
                0xCB => return Err(unsupported("lossless arithmetic coding")),
                0xDA => {
                    scans += 1;
                    if scans > MOST_SCANS {
                        return Err(broken(FORMAT, "it has far more scans than any image needs"));
                    }
                    let frame = frame.as_mut().ok_or_else(no_frame)?;
                    frame.add_scan(data);
                    let end = end_of_scan(bytes, next);
                    at = end.unwrap_or(bytes.len());
                    scan_bytes += (at - next) as u64;
                    if frame.is_complete() || end.is_none() {
                        break match end {
                            None => End::File,
                            Some(at) if matches!(segment(bytes, at), Ok((0xD9, ..))) => End::Image,
                            Some(_) => End::OtherMarker,
                        };
                    }
                    continue;
                }
                _ => each(marker, data)?,
            }
            at = next;
        };
        let frame = frame.ok_or_else(no_frame)?;
        let complete = frame.is_complete();
        let cut = match ends {
            End::Image => !frame.has_all_components(),
            End::OtherMarker => !complete,
            // Arithmetic codes are allowed to leave out zeros at their end, so that only the marker tells that nothing is missing.
            End::File => !complete || frame.arithmetic,
        };
        // The first scan over a component spends at least a bit on each block of 8 x 8 pixels, unless its codes are arithmetic.
        let pixels = u64::from(frame.width) * u64::from(frame.height);
        if cut || (!frame.arithmetic && scan_bytes * 8 * 64 < pixels) {
            return Err(ImageError::Truncated { format: FORMAT });
        }
        Ok(Self { frame, end: at, ends, complete })
    }

    /// Refuses what is damaged or cut off.
    fn judge(&self, bytes: &[u8], decoded: &codec::Decoded, notes: &mut Vec<String>) -> Result<(), ImageError> {
        let warned = |bit| decoded.warnings & bit != 0;
        let read = self.end - decoded.unread;
        if self.ends == End::File {
            let unwritten = bytes[..read.saturating_sub(codec::AHEAD)].ends_with(&[0; ZEROS]);
            if unwritten || warned(codec::DATA_MISSING) {
                return Err(ImageError::Truncated { format: FORMAT });
            }
            notes.push("the end marker is missing, but all pixels are there".into());
        }
        for (bit, reason) in [
            (codec::OUT_OF_STEP, "a restart marker is missing, so parts of the image would be lost"),
            (codec::DATA_WRONG, "its data contains invalid codes"),
            (codec::DATA_MISSING, "its data ends before the last pixel"),
        ] {
            if warned(bit) {
                return Err(broken(FORMAT, reason));
            }
        }
        // Some encoders pad with zeros or ones.
        let rest = &bytes[(read + codec::AHEAD).min(self.end)..self.end];
        if warned(codec::STRAY_IN_INTERVAL) || (self.ends != End::File && rest.iter().any(|b| !matches!(b, 0 | 0xFF))) {
            notes.push(
                "the file has more data than pixels; if parts of the image look wrong, the file is \
                damaged"
                    .into(),
            );
        }
        if !self.complete {
            notes.push("the scans with the finest details are missing".into());
        }
        Ok(())
    }
}

/// Interleaved samples of a stream inside another format, as stored, without color conversion. The caller has checked
/// its [`frame_size`] against the limits.
///
/// # Errors
/// If the stream is damaged, has other than `count` components of 8 bits, or `cancelled` says `true`.
pub(super) fn components(bytes: &[u8], count: usize, cancelled: Cancelled<'_>) -> Result<Vec<u8>, ImageError> {
    let frame = frame(bytes).ok_or_else(no_frame)?;
    if frame.components.len() != count || frame.precision != 8 {
        return Err(broken(FORMAT, "its color components differ from what the file declares"));
    }
    let order = Order {
        bytes,
        width: frame.width,
        height: frame.height,
        components: count as u8,
        precision: 8,
        colours: Colours::AsStored,
        most_scans: MOST_SCANS,
        cancelled,
    };
    match codec::decode(&order)? {
        codec::Decoded { samples: Samples::U8(samples), warnings, .. } if warnings & !codec::STRAY_IN_INTERVAL == 0 => {
            Ok(samples)
        }
        _ => Err(broken(FORMAT, "its data is incomplete or contains invalid codes")),
    }
}

/// Width and height of the frame in a JPEG stream.
///
/// # Errors
/// If its headers cannot be parsed.
pub(super) fn frame_size(bytes: &[u8]) -> Result<(usize, usize), ImageError> {
    let frame = frame(bytes).ok_or_else(no_frame)?;
    Ok((frame.width as usize, frame.height as usize))
}

fn no_frame() -> ImageError {
    broken(FORMAT, "it has no frame")
}

fn frame(bytes: &[u8]) -> Option<Frame> {
    /// In streams inside other formats, tables come before the frame, and little else.
    const MOST_SEGMENTS: usize = 64;
    let mut at = 2;
    for _ in 0..MOST_SEGMENTS {
        let (marker, data, next) = segment(bytes, at).ok()?;
        match marker {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => return Frame::read(marker, data).ok(),
            0xDA | 0xD9 => return None,
            _ => at = next,
        }
    }
    None
}

/// The quality that a first table of quantization stands for, if it is in these tables, by its sum: the library of the Independent JPEG
/// Group multiplies the table of ITU-T T.81, annex K.1, by 2 - quality / 50, or by 50 / quality below 50.
fn quality(tables: &[u8]) -> Option<u8> {
    /// Of the table in annex K.1.
    const SUM: f64 = 3688.0;
    let mut tables = tables;
    while let Some((&head, rest)) = tables.split_first() {
        let (wide, id) = (usize::from(head >> 4), head & 15);
        let table = rest.get(..64 << wide.min(1))?;
        if id == 0 {
            let sum: u32 = match wide {
                0 => table.iter().map(|&value| u32::from(value)).sum(),
                _ => table.chunks_exact(2).map(|value| u32::from(u16::from_be_bytes([value[0], value[1]]))).sum(),
            };
            let times = f64::from(sum) / SUM;
            let quality = if times <= 1.0 { 100.0 - 50.0 * times } else { 50.0 / times };
            return Some(quality.round().clamp(1.0, 100.0) as u8);
        }
        tables = &rest[table.len()..];
    }
    None
}

/// ITU-T T.871, section 7.
pub(super) fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round() as u8)
}

/// The marker at or after `at`, its data, and where the next one starts. Other bytes are skipped, as in all other
/// programs.
fn segment(bytes: &[u8], mut at: usize) -> Result<(u8, &[u8], usize), ImageError> {
    let cut = || ImageError::Truncated { format: FORMAT };
    let marker = loop {
        at += memchr::memchr(0xFF, bytes.get(at..).ok_or_else(cut)?).ok_or_else(cut)?;
        // Any number of fill bytes may come before a marker.
        at += bytes[at..].iter().take_while(|&&b| b == 0xFF).count();
        match *bytes.get(at).ok_or_else(cut)? {
            0 => at += 1,
            marker => break marker,
        }
    };
    if matches!(marker, 0x01 | 0xD0..=0xD9) {
        return Ok((marker, &[], at + 1));
    }
    let length = bytes.get(at + 1..at + 3).ok_or_else(cut)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < 2 {
        return Err(broken(FORMAT, "a segment is shorter than its own length"));
    }
    let data = bytes.get(at + 3..at + 1 + length).ok_or_else(cut)?;
    Ok((marker, data, at + 1 + length))
}

/// Where the next marker is that is neither a stuffed byte nor a restart.
fn end_of_scan(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(0xFF, bytes.get(at..)?)?;
        match bytes.get(at + 1)? {
            0x00 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
}

/// What SOF declares, and what the scans have covered so far.
struct Frame {
    precision: u8,
    width: u32,
    height: u32,
    progressive: bool,
    lossless: bool,
    arithmetic: bool,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    sampling: (u8, u8),
    /// The lowest bit of each coefficient that was brought; [`NOT_YET`] if none was.
    lowest: [u8; 64],
}

const NOT_YET: u8 = u8::MAX;

impl Frame {
    fn read(marker: u8, data: &[u8]) -> Result<Self, ImageError> {
        let short = || broken(FORMAT, "its frame header is too short");
        let &[precision, h1, h0, w1, w0, count, ref components @ ..] = data else { return Err(short()) };
        let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
        let components: Vec<_> = components
            .chunks_exact(3)
            .take(count.into())
            .map(|c| Component { id: c[0], sampling: (c[1] >> 4, c[1] & 15), lowest: [NOT_YET; 64] })
            .collect();
        if components.len() < usize::from(count) {
            return Err(short());
        }
        Ok(Self {
            precision,
            width: side(w1, w0),
            height: side(h1, h0),
            progressive: matches!(marker, 0xC2 | 0xCA),
            lossless: marker == 0xC3,
            arithmetic: marker >= 0xC9,
            components,
        })
    }

    /// Refuses what the codec cannot decode.
    fn check(&self) -> Result<(), ImageError> {
        if !matches!(self.components.len(), 1 | 3 | 4) {
            return Err(unsupported(format!("{} color components", self.components.len())));
        }
        if !(matches!(self.precision, 8 | 12) || (self.lossless && matches!(self.precision, 2..=16))) {
            return Err(unsupported(format!("{} bits per sample", self.precision)));
        }
        let most = self.components.iter().fold((1, 1), |m, c| (m.0.max(c.sampling.0), m.1.max(c.sampling.1)));
        if self.components.iter().any(|c| c.sampling.0 == 0 || c.sampling.1 == 0) {
            return Err(broken(FORMAT, "a color component has no samples"));
        }
        if self.components.iter().any(|c| most.0 % c.sampling.0 != 0 || most.1 % c.sampling.1 != 0) {
            return Err(unsupported("an unusual chroma subsampling"));
        }
        Ok(())
    }

    /// Records what a scan with this header covers. An invalid one covers nothing; the codec will report it.
    fn add_scan(&mut self, header: &[u8]) {
        let Some((&count, rest)) = header.split_first() else { return };
        let Some((ids, &[from, to, bits, ..])) = rest.split_at_checked(2 * usize::from(count)) else { return };
        let (range, lowest) = match self.progressive {
            true => (from.into()..=to.into(), bits & 15),
            // All other files bring all at once, whatever these bytes say.
            false => (0..=63, 0),
        };
        for id in ids.iter().step_by(2) {
            for component in self.components.iter_mut().filter(|c| c.id == *id) {
                if let Some(coefficients) = component.lowest.get_mut(range.clone()) {
                    coefficients.fill(lowest);
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.components.iter().all(|c| c.lowest.iter().all(|&bit| bit == 0))
    }

    /// Whether each component has its means at least.
    fn has_all_components(&self) -> bool {
        self.components.iter().all(|c| c.lowest[0] != NOT_YET)
    }
}

fn unsupported(what: impl Into<String>) -> ImageError {
    ImageError::Unsupported { format: FORMAT, what: what.into() }
}

/// A profile cut into segments, each with its number and their count (ICC.1, annex B.4).
#[derive(Default)]
struct IccParts<'a> {
    parts: Vec<(u8, &'a [u8])>,
    bytes: usize,
}

impl<'a> IccParts<'a> {
    fn add(&mut self, data: &'a [u8], limits: &Limits) -> Result<(), ImageError> {
        if let &[number, _, ref part @ ..] = data {
            self.bytes += part.len();
            self.parts.push((number, part));
        }
        if self.bytes > limits.max_metadata {
            return Err(ImageError::MetadataTooLarge { what: "ICC profile", limit: limits.max_metadata });
        }
        Ok(())
    }

    fn join(mut self) -> Option<Vec<u8>> {
        self.parts.sort_by_key(|part| part.0);
        let whole: Vec<u8> = self.parts.into_iter().flat_map(|part| part.1.iter().copied()).collect();
        (!whole.is_empty()).then_some(whole)
    }
}

/// JFIF's density: unit (1 inch, 2 centimetre), across, down.
fn density(data: &[u8]) -> Option<(f32, f32)> {
    let &[unit, x1, x0, y1, y0, ..] = data.get(7..)? else { return None };
    let scale = match unit {
        1 => 1.0,
        2 => 2.54,
        _ => return None,
    };
    let (x, y) = (u16::from_be_bytes([x1, x0]), u16::from_be_bytes([y1, y0]));
    (x > 0 && y > 0).then(|| (f32::from(x) * scale, f32::from(y) * scale))
}
