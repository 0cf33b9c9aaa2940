//! The few things we need of an EXIF block: orientation, density, size, thumbnail and location.
//!
//! EXIF is a TIFF structure (CIPA DC-008, section 4.5). We patch entries in place, so that everything we do not understand,
//! maker notes with their absolute offsets included, stays as it was.

use crate::ifd::{self, Entry, Order, Structure, Tag, serialise, size_of_kind};

pub(crate) const ORIENTATION: u16 = 0x0112;
pub(crate) const X_RESOLUTION: u16 = 0x011A;
pub(crate) const Y_RESOLUTION: u16 = 0x011B;
pub(crate) const RESOLUTION_UNIT: u16 = 0x0128;
pub(crate) const EXIF_DIRECTORY: u16 = 0x8769;
pub(crate) const GPS_DIRECTORY: u16 = 0x8825;
const IMAGE_WIDTH: u16 = 0x0100;
const IMAGE_HEIGHT: u16 = 0x0101;
const THUMBNAIL: u16 = 0x0201;
const THUMBNAIL_LENGTH: u16 = 0x0202;
const PIXEL_WIDTH: u16 = 0xA002;
const PIXEL_HEIGHT: u16 = 0xA003;
const INTEROPERABILITY: u16 = 0xA005;
const USER_COMMENT: u16 = 0x9286;
/// Bytes of a UserComment that name its characters.
const CHARACTER_CODE: usize = 8;
const UNDEFINED: u16 = 7;
const MAKER_NOTE: u16 = 0x927C;
pub(crate) const MAKE: u16 = 0x010F;
pub(crate) const MODEL: u16 = 0x0110;
pub(crate) const ARTIST: u16 = 0x013B;
pub(crate) const COPYRIGHT: u16 = 0x8298;
/// Where the offset of the main directory lies.
const MAIN: usize = 4;
/// The program that worked on the picture after the camera did.
pub(crate) const PROCESSING_SOFTWARE: u16 = 0x000B;
/// What is in the picture.
pub(crate) const DESCRIPTION: u16 = 0x010E;
/// The program that the camera or scanner made the picture by.
pub(crate) const SOFTWARE: u16 = 0x0131;

/// Cameras write some dozens. Hostile blocks have so many that quadratic work would take minutes.
const MOST_ENTRIES: usize = 1000;

/// Whether this is a plausible TIFF structure.
pub(crate) fn is_valid(exif: &[u8]) -> bool {
    Structure::open(exif).is_some_and(|(s, first)| {
        !s.big && s.directory(first).is_some_and(|fields| fields.entries.len() <= MOST_ENTRIES)
    })
}

/// Orientation 1..=8; 1 if there is no valid one.
pub(crate) fn orientation(exif: &[u8]) -> u8 {
    match number(exif, ORIENTATION) {
        Some(value @ 1..=8) => value as u8,
        _ => 1,
    }
}

/// Pixels per inch.
pub(crate) fn dpi(exif: &[u8]) -> Option<(f32, f32)> {
    let (structure, first) = Structure::open(exif)?;
    let entries = structure.directory(first)?.entries;
    let rational = |tag| entries.iter().find(|e| e.tag == tag)?.rational(structure.order);
    let scale = dots_per_unit(number(exif, RESOLUTION_UNIT))?;
    Some((rational(X_RESOLUTION)? * scale, rational(Y_RESOLUTION)? * scale))
}

/// Inches per ResolutionUnit's unit: 2 (and the default) is the inch, 3 the centimetre, 1 no unit at all.
pub(crate) fn dots_per_unit(unit: Option<u64>) -> Option<f32> {
    match unit {
        None | Some(2) => Some(1.0),
        Some(3) => Some(2.54),
        _ => None,
    }
}

/// Marks the pixels as upright. A rotated thumbnail would now be wrong, so it is removed.
pub(crate) fn set_upright(exif: &mut [u8]) {
    if orientation(exif) != 1 {
        remove_thumbnail(exif);
    }
    if let Some((order, entry)) = find(exif, 4, ORIENTATION) {
        order.put_u16(exif, entry + 2, ifd::SHORT);
        order.put_u16(exif, entry + 8, 1);
    }
}

/// Says how large the picture is, wherever the block already says so.
pub(crate) fn set_size(exif: &mut [u8], width: u32, height: u32) {
    // The main directory hangs on the header, EXIF's own one on an entry of that.
    let own = find(exif, 4, EXIF_DIRECTORY).map(|(_, entry)| entry + 8);
    let places = [
        (Some(4), IMAGE_WIDTH, width),
        (Some(4), IMAGE_HEIGHT, height),
        (own, PIXEL_WIDTH, width),
        (own, PIXEL_HEIGHT, height),
    ];
    for (pointer, tag, value) in places {
        if let Some((order, entry)) = pointer.and_then(|pointer| find(exif, pointer, tag)) {
            order.put_u16(exif, entry + 2, ifd::LONG);
            order.put_u32(exif, entry + 4, 1);
            order.put_u32(exif, entry + 8, value);
        }
    }
}

/// Sets the density, in pixels per inch, wherever the block already has one.
pub(crate) fn set_dpi(exif: &mut [u8], dpi: f32) {
    for tag in [X_RESOLUTION, Y_RESOLUTION] {
        let Some((order, entry)) = find(exif, 4, tag) else { continue };
        let is_one_rational =
            order.u16(exif, entry + 2) == Some(ifd::RATIONAL) && order.u32(exif, entry + 4) == Some(1);
        if let Some(at) = order.u32(exif, entry + 8).filter(|_| is_one_rational) {
            order.put_u32(exif, at as usize, (f64::from(dpi) * 1000.0).round() as u32);
            order.put_u32(exif, (at as usize).saturating_add(4), 1000);
        }
    }
    if let Some((order, entry)) = find(exif, 4, RESOLUTION_UNIT) {
        // The inch.
        order.put_u16(exif, entry + 2, ifd::SHORT);
        order.put_u16(exif, entry + 8, 2);
    }
}

/// Removes the location: removes the pointer to the GPS directory, and overwrites the directory and its values with
/// zeros.
pub(crate) fn remove_gps(exif: &mut [u8]) {
    // Usually one; hostile blocks may have any number.
    while let Some((order, entry)) = find(exif, 4, GPS_DIRECTORY) {
        let gps = order.u32(exif, entry + 8);
        if !remove_entry(exif, order, entry) {
            return;
        }
        if let Some(gps) = gps {
            wipe_directory(exif, order, gps as usize);
        }
    }
}

/// Removes the second directory, which holds the thumbnail.
pub(crate) fn remove_thumbnail(exif: &mut [u8]) {
    let Some((order, pointer)) = next_pointer(exif) else { return };
    let value = |tag| find(exif, pointer, tag).and_then(|(order, entry)| order.u32(exif, entry + 8));
    if let (Some(start), Some(length)) = (value(THUMBNAIL), value(THUMBNAIL_LENGTH)) {
        let end = (start as usize).saturating_add(length as usize);
        if let Some(jpeg) = exif.get_mut(start as usize..end) {
            jpeg.fill(0);
        }
    }
    let at = order.u32(exif, pointer).unwrap_or(0) as usize;
    order.put_u32(exif, pointer, 0);
    wipe_directory(exif, order, at);
}

/// The block, or a new one, with a note on how the picture was made.
pub(crate) fn with_note(exif: Option<Vec<u8>>, note: &str) -> Option<Vec<u8>> {
    let note_alone = || Parts { main: vec![Tag::text(PROCESSING_SOFTWARE, note)], ..Parts::default() }.into_block();
    Some(exif.and_then(|exif| with_text(&exif, PROCESSING_SOFTWARE, note)).unwrap_or_else(note_alone))
}

/// The block with a text field set in its main directory.
pub(crate) fn with_text(exif: &[u8], tag: u16, text: &str) -> Option<Vec<u8>> {
    let mut text: Vec<u8> = text.bytes().filter(|&b| b != 0).collect();
    text.push(0);
    with_field(exif, MAIN, tag, ifd::ASCII, &text)
}

/// The block, or a new one, with a text field in its main directory; `None` if there is such a field.
pub(crate) fn with_new_text(exif: Option<&[u8]>, tag: u16, text: &str) -> Option<Vec<u8>> {
    let block = exif.map_or_else(|| Parts::default().into_block(), <[u8]>::to_vec);
    if find(&block, MAIN, tag).is_some() { None } else { with_text(&block, tag, text) }
}

/// The block, or a new one, with a UserComment; `None` if there is one that says something.
///
/// Its characters are "UNICODE" in two bytes, the high one first, whatever the block's byte order: this is what programs that
/// generate pictures write there and read.
pub(crate) fn with_user_comment(exif: Option<&[u8]>, text: &str) -> Option<Vec<u8>> {
    let mut block = exif.map_or_else(|| Parts::default().into_block(), <[u8]>::to_vec);
    if find(&block, MAIN, EXIF_DIRECTORY).is_none() {
        let order = Structure::open(&block)?.0.order;
        block.resize(block.len().next_multiple_of(2), 0);
        let mut at = [0; 4];
        order.put_u32(&mut at, 0, u32::try_from(block.len()).ok()?);
        // An empty directory, with none behind it.
        block.extend([0; 6]);
        block = with_field(&block, MAIN, EXIF_DIRECTORY, ifd::LONG, &at)?;
    }
    let (order, entry) = find(&block, MAIN, EXIF_DIRECTORY)?;
    let own = entry + 8;
    let (structure, _) = Structure::open(&block)?;
    let entries = structure.directory(order.u32(&block, own)?.into())?.entries;
    let comment = entries.iter().find(|e| e.tag == USER_COMMENT).and_then(|e| e.data);
    let is_blank = |comment: &[u8]| comment.iter().skip(CHARACTER_CODE).all(|b| matches!(b, 0 | b' '));
    if !comment.is_none_or(is_blank) {
        return None;
    }
    let mut comment = b"UNICODE\0".to_vec();
    comment.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
    with_field(&block, own, USER_COMMENT, UNDEFINED, &comment)
}

/// The block with a field set in the directory that the offset at `pointer` points to. `data` is in the block's byte order. The
/// directory moves to the end, everything else stays where it is.
fn with_field(exif: &[u8], pointer: usize, tag: u16, kind: u16, data: &[u8]) -> Option<Vec<u8>> {
    let (order, start, count) = fields(exif, pointer)?;
    let fields = exif.get(start..start + 12 * count)?;
    let next = order.u32(exif, start + 12 * count).unwrap_or(0);

    let mut out = exif.to_vec();
    out.resize(out.len().next_multiple_of(2), 0);
    let mut entry = [0; 12];
    order.put_u16(&mut entry, 0, tag);
    order.put_u16(&mut entry, 2, kind);
    order.put_u32(&mut entry, 4, u32::try_from(data.len() as u64 / size_of_kind(kind)?).ok()?);
    // Four bytes or less are kept in the entry itself.
    if let Some(place) = entry.get_mut(8..8 + data.len()) {
        place.copy_from_slice(data);
    } else {
        order.put_u32(&mut entry, 8, u32::try_from(out.len()).ok()?);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(2), 0);
    }
    let mut entries: Vec<&[u8]> = fields.chunks_exact(12).filter(|f| order.u16(f, 0) != Some(tag)).collect();
    entries.push(&entry);
    entries.sort_by_key(|field| order.u16(field, 0));

    let directory_at = out.len();
    let mut directory = vec![0; 2 + 12 * entries.len() + 4];
    order.put_u16(&mut directory, 0, u16::try_from(entries.len()).ok()?);
    for (place, field) in directory[2..].chunks_exact_mut(12).zip(&entries) {
        place.copy_from_slice(field);
    }
    let end = directory.len() - 4;
    order.put_u32(&mut directory, end, next);
    out.extend_from_slice(&directory);
    order.put_u32(&mut out, pointer, u32::try_from(directory_at).ok()?);
    Some(out)
}

/// The directories of a block that other files can hold: main, EXIF, GPS.
#[derive(Default)]
pub(crate) struct Parts {
    pub main: Vec<Tag>,
    pub exif: Vec<Tag>,
    pub gps: Vec<Tag>,
}

impl Parts {
    /// Of an EXIF block or a TIFF file. Leaves out fields that say how pixels are laid out, and maker notes: their
    /// offsets are often relative to the whole, so they would point to nowhere.
    pub fn read(structure: Structure, first: u64) -> Self {
        let directory = |at: u64| structure.directory(at).map(|fields| fields.entries).unwrap_or_default();
        // Fields that share their values could inflate a small file.
        let mut left = structure.bytes.len();
        let mut to_tag = |e: Entry<'_>| {
            left = left.checked_sub(e.data?.len())?;
            e.to_tag(structure.order)
        };
        let main = directory(first);
        let mut sub = |pointer: u16| -> Vec<Tag> {
            let at = main.iter().find(|e| e.tag == pointer).and_then(|e| e.number(structure.order, 0));
            let entries = at.map(directory).unwrap_or_default();
            let kept = entries.into_iter().filter(|e| !matches!(e.tag, MAKER_NOTE | INTEROPERABILITY));
            kept.filter_map(&mut to_tag).collect()
        };
        let (exif, gps) = (sub(EXIF_DIRECTORY), sub(GPS_DIRECTORY));
        let main = main.iter().copied().filter(|e| is_about_the_picture(e.tag)).filter_map(to_tag).collect();
        Self { main, exif, gps }
    }

    pub fn is_empty(&self) -> bool {
        self.main.is_empty() && self.exif.is_empty() && self.gps.is_empty()
    }

    /// As bytes that are to lie at offset `at`, and the offset of the main directory.
    pub fn serialise(mut self, at: u64, big: bool) -> (Vec<u8>, u64) {
        let mut out = Vec::new();
        for (pointer, tags) in [(EXIF_DIRECTORY, self.exif), (GPS_DIRECTORY, self.gps)] {
            if !tags.is_empty() {
                let place = at + out.len() as u64;
                self.main.retain(|tag| tag.tag != pointer);
                self.main.push(Tag::longs(pointer, &[place], big));
                out.extend(serialise(tags, place, big));
            }
        }
        let main = at + out.len() as u64;
        out.extend(serialise(self.main, main, big));
        (out, main)
    }

    /// As an EXIF block.
    pub fn into_block(self) -> Vec<u8> {
        let (mut body, main) = self.serialise(8, false);
        let mut block = b"II*\0".to_vec();
        block.extend_from_slice(&(main as u32).to_le_bytes());
        block.append(&mut body);
        block
    }
}

/// Tags of the main directory that describe the picture and not the file: description, maker, model, orientation,
/// density, software, date, artist, copyright, rating, and Windows' own title to subject.
fn is_about_the_picture(tag: u16) -> bool {
    matches!(
        tag,
        0x010E..=0x0110 | 0x0112 | 0x011A | 0x011B | 0x0128 | 0x0131 | 0x0132 | 0x013B | 0x4746 | 0x4749 | 0x8298
    ) || matches!(tag, 0x9C9B..=0x9C9F)
}

fn number(exif: &[u8], tag: u16) -> Option<u64> {
    let (structure, first) = Structure::open(exif)?;
    structure.directory(first)?.entries.iter().find(|e| e.tag == tag)?.number(structure.order, 0)
}

/// Where the entry for a tag lies, in the directory that the offset at `pointer` points to.
fn find(exif: &[u8], pointer: usize, tag: u16) -> Option<(Order, usize)> {
    let (order, start, count) = fields(exif, pointer)?;
    let entry = (0..count).map(|i| start + 12 * i).find(|&entry| order.u16(exif, entry) == Some(tag))?;
    Some((order, entry))
}

/// Start and number of the entries of the directory that the offset at `pointer` points to; all lie within the block.
fn fields(exif: &[u8], pointer: usize) -> Option<(Order, usize, usize)> {
    let order = Structure::open(exif).filter(|s| !s.0.big)?.0.order;
    let at = order.u32(exif, pointer)? as usize;
    let count = usize::from(order.u16(exif, at)?);
    exif.get(at + 2..at + 2 + 12 * count)?;
    Some((order, at + 2, count))
}

/// Where the main directory's pointer to the next one lies, if there is a next one.
fn next_pointer(exif: &[u8]) -> Option<(Order, usize)> {
    let (order, start, count) = fields(exif, 4)?;
    let pointer = start + 12 * count;
    (order.u32(exif, pointer)? != 0).then_some((order, pointer))
}

fn wipe_directory(exif: &mut [u8], order: Order, at: usize) {
    let Some(count) = order.u16(exif, at).map(usize::from) else { return };
    let end = at + 2 + 12 * count;
    if end > exif.len() {
        return;
    }
    let mut values: Vec<(usize, usize)> = (at + 2..end)
        .step_by(12)
        .filter_map(|entry| {
            let (kind, count) = (order.u16(exif, entry + 2)?, order.u32(exif, entry + 4)?);
            let size = usize::try_from(size_of_kind(kind)?.checked_mul(count.into())?).ok()?;
            let start = order.u32(exif, entry + 8)? as usize;
            let end = start.checked_add(size).filter(|&end| size > 4 && end <= exif.len())?;
            Some((start, end))
        })
        .collect();
    // Each byte once, however often it is pointed to.
    values.sort_unstable();
    let mut wiped = 0;
    for (start, end) in values {
        exif[start.max(wiped).min(end)..end].fill(0);
        wiped = wiped.max(end);
    }
    exif[at..end].fill(0);
}

/// Moves the main directory's entries behind one up, and the pointer to the next directory with them.
fn remove_entry(exif: &mut [u8], order: Order, entry: usize) -> bool {
    let Some((_, start, count)) = fields(exif, 4) else { return false };
    let end = (start + 12 * count + 4).min(exif.len());
    if count == 0 || entry < start || entry + 12 > end {
        return false;
    }
    exif.copy_within(entry + 12..end, entry);
    exif[end - 12..end].fill(0);
    order.put_u16(exif, start - 2, (count - 1) as u16);
    true
}
