//! The few things we need of an EXIF block: its orientation, its resolution and where the picture was taken.
//!
//! Blocks are patched in place, so that everything we do not understand, maker notes included, stays as it was.

use crate::ifd::{Directory, GPS_DIRECTORY, ORIENTATION};

/// Whether this is a TIFF structure at all.
pub(crate) fn is_valid(exif: &[u8]) -> bool {
    Directory::first(exif).is_some()
}

/// Orientation 1..=8; 1 if there is none that makes sense.
pub(crate) fn orientation(exif: &[u8]) -> u8 {
    match Directory::first(exif).and_then(|d| d.number(exif, ORIENTATION)) {
        Some(value @ 1..=8) => value as u8,
        _ => 1,
    }
}

/// Says that the pixels are upright now.
pub(crate) fn reset_orientation(exif: &mut [u8]) {
    let Some(directory) = Directory::first(exif) else { return };
    if let Some(entry) = directory.get(ORIENTATION).filter(|e| e.kind == 3) {
        exif[entry.value.start..entry.value.start + 2].copy_from_slice(&directory.order.bytes16(1));
    }
}

/// Pixels per inch.
pub(crate) fn dpi(exif: &[u8]) -> Option<(f32, f32)> {
    Directory::first(exif)?.dpi(exif)
}

/// Removes the place: overwrites the GPS directory and its values with zeros, then takes the pointer to it out.
pub(crate) fn remove_gps(exif: &mut [u8]) {
    // A damaged block may point there more than once; each round removes an entry, so this ends.
    while let Some(directory) = Directory::first(exif)
        && let Some(pointer) = directory.get(GPS_DIRECTORY).cloned()
    {
        if let Some(gps) = directory.child(exif, GPS_DIRECTORY) {
            for entry in &gps.entries {
                exif[entry.value.clone()].fill(0);
            }
            let end = gps.entries.last().map_or(gps.at, |last| last.at + 12).min(exif.len());
            exif[gps.at..end].fill(0);
        }
        if !remove_entry(exif, &directory, pointer.at) {
            return;
        }
    }
}

/// Moves the entries behind one up, and the pointer to the next directory with them. False if wiping left nothing to remove.
fn remove_entry(exif: &mut [u8], directory: &Directory, entry: usize) -> bool {
    let Some(count @ 1..) = directory.order.u16(exif, directory.at) else { return false };
    let end = (directory.at + 2 + 12 * usize::from(count) + 4).min(exif.len());
    exif.copy_within(entry + 12..end, entry);
    exif[end - 12..end].fill(0);
    exif[directory.at..directory.at + 2].copy_from_slice(&directory.order.bytes16(count - 1));
    true
}
