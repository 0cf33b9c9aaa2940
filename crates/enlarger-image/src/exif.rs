//! The few things we need of an EXIF block: its orientation, its resolution and where the picture was taken.
//!
//! EXIF is a TIFF structure (CIPA DC-008, section 4.5): a byte-order mark, then directories of 12-byte entries. We patch entries
//! in place, so that everything we do not understand, maker notes included, stays as it was.

const ORIENTATION: u16 = 0x0112;
const X_RESOLUTION: u16 = 0x011A;
const Y_RESOLUTION: u16 = 0x011B;
const RESOLUTION_UNIT: u16 = 0x0128;
const GPS_DIRECTORY: u16 = 0x8825;

/// Bytes of one value, by field type 1..=12. TIFF 6.0, section 2.
const TYPE_SIZES: [usize; 13] = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8];

#[derive(Clone, Copy)]
struct Order {
    little: bool,
}

impl Order {
    fn of(exif: &[u8]) -> Option<Self> {
        match exif.get(..4)? {
            b"II*\0" => Some(Self { little: true }),
            b"MM\0*" => Some(Self { little: false }),
            _ => None,
        }
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let b = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let b = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) })
    }

    fn put_u16(self, bytes: &mut [u8], at: usize, value: u16) {
        let b = if self.little { value.to_le_bytes() } else { value.to_be_bytes() };
        bytes[at..at + 2].copy_from_slice(&b);
    }
}

/// Offsets of the entries of the directory at `at` that lie within the block.
fn entries(exif: &[u8], order: Order, at: usize) -> Vec<usize> {
    let Some(count) = order.u16(exif, at) else { return Vec::new() };
    (0..usize::from(count)).map(|i| at + 2 + 12 * i).take_while(|e| e + 12 <= exif.len()).collect()
}

/// The first directory's entry for a tag.
fn find(exif: &[u8], tag: u16) -> Option<(Order, usize)> {
    let order = Order::of(exif)?;
    let first = order.u32(exif, 4)? as usize;
    let entry = entries(exif, order, first).into_iter().find(|&e| order.u16(exif, e) == Some(tag))?;
    Some((order, entry))
}

fn short(exif: &[u8], tag: u16) -> Option<u16> {
    let (order, entry) = find(exif, tag)?;
    order.u16(exif, entry + 8)
}

fn rational(exif: &[u8], tag: u16) -> Option<f32> {
    let (order, entry) = find(exif, tag)?;
    let at = order.u32(exif, entry + 8)? as usize;
    let (n, d) = (order.u32(exif, at)?, order.u32(exif, at.checked_add(4)?)?);
    (n > 0 && d > 0).then(|| (f64::from(n) / f64::from(d)) as f32)
}

/// Orientation 1..=8; 1 if there is none that makes sense.
pub(crate) fn orientation(exif: &[u8]) -> u8 {
    match short(exif, ORIENTATION) {
        Some(value @ 1..=8) => value as u8,
        _ => 1,
    }
}

/// Says that the pixels are upright now.
pub(crate) fn reset_orientation(exif: &mut [u8]) {
    if let Some((order, entry)) = find(exif, ORIENTATION) {
        order.put_u16(exif, entry + 8, 1);
    }
}

/// Pixels per inch.
pub(crate) fn dpi(exif: &[u8]) -> Option<(f32, f32)> {
    let scale = match short(exif, RESOLUTION_UNIT) {
        None | Some(2) => 1.0,
        Some(3) => 2.54,
        _ => return None,
    };
    Some((rational(exif, X_RESOLUTION)? * scale, rational(exif, Y_RESOLUTION)? * scale))
}

/// Whether this is a TIFF structure at all.
pub(crate) fn is_valid(exif: &[u8]) -> bool {
    Order::of(exif).is_some_and(|order| order.u32(exif, 4).is_some_and(|first| (first as usize) < exif.len()))
}

/// Removes the place: overwrites the GPS directory and its values with zeros, then takes the pointer to it out.
pub(crate) fn remove_gps(exif: &mut [u8]) {
    while let Some((order, pointer)) = find(exif, GPS_DIRECTORY) {
        if let Some(gps) = order.u32(exif, pointer + 8) {
            wipe_directory(exif, order, gps as usize);
        }
        remove_entry(exif, order, pointer);
    }
}

fn wipe_directory(exif: &mut [u8], order: Order, at: usize) {
    let entries = entries(exif, order, at);
    for &entry in &entries {
        let kind = order.u16(exif, entry + 2).unwrap_or(0);
        let count = order.u32(exif, entry + 4).unwrap_or(0) as usize;
        let size = TYPE_SIZES.get(usize::from(kind)).map_or(0, |s| s.saturating_mul(count));
        if size > 4
            && let Some(start) = order.u32(exif, entry + 8)
            && let Some(values) = exif.get_mut(start as usize..(start as usize).saturating_add(size))
        {
            values.fill(0);
        }
    }
    if let Some(&last) = entries.last() {
        exif[at..last + 12].fill(0);
    }
}

/// Moves the entries behind one up, and the pointer to the next directory with them.
fn remove_entry(exif: &mut [u8], order: Order, entry: usize) {
    let Some(first) = order.u32(exif, 4).map(|f| f as usize) else { return };
    let Some(count) = order.u16(exif, first) else { return };
    let end = (first + 2 + 12 * usize::from(count) + 4).min(exif.len());
    exif.copy_within(entry + 12..end, entry);
    exif[end - 12..end].fill(0);
    order.put_u16(exif, first, count - 1);
}
