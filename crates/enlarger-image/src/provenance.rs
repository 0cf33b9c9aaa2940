//! Whether a file says that enlarger made it. Only headers are read, and pixels sought past; but
//! for AVIF, where the note may lie behind the pixels.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use crate::exif::{DESCRIPTION, PROCESSING_SOFTWARE, SOFTWARE};

/// More blocks than any real file has before its pixels; what comes after them is not looked at.
const MOST_BLOCKS: usize = 4096;
/// More bytes than a note, or a block with a note in it, has.
const MOST_BYTES: u64 = 1 << 20;

/// More bytes than an AVIF file of any size that we write has.
const MOST_OF_AVIF: u64 = 64 << 20;

/// The note that [`crate::encode`] writes for [`crate::EncodeOptions::provenance`], if a PNG, JPEG, TIFF, WebP or AVIF file has one:
/// "upscaled 4x by enlarger 0.1.0, x4plus, plan 0123456789ab". Nothing of other files, damaged ones included.
///
/// # Errors
/// If `file` cannot be read.
pub fn provenance<R: Read + Seek>(file: &mut R) -> io::Result<Option<String>> {
    match find(file) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        found => found,
    }
}

fn find<R: Read + Seek>(file: &mut R) -> io::Result<Option<String>> {
    let magic: [u8; 12] = array(file)?;
    let start = |at| SeekFrom::Start(at);
    if magic.starts_with(b"\x89PNG\r\n\x1a\n") {
        file.seek(start(8))?;
        in_png(file)
    } else if magic.starts_with(b"\xff\xd8") {
        file.seek(start(2))?;
        in_jpeg(file)
    } else if magic.starts_with(b"RIFF") && magic.ends_with(b"WEBP") {
        in_webp(file)
    } else if magic.starts_with(b"II*\0") || magic.starts_with(b"II+\0") {
        in_tiff(&mut Tiff { file, big_endian: false, wide: magic[2] == b'+' })
    } else if magic.starts_with(b"MM\0*") || magic.starts_with(b"MM\0+") {
        in_tiff(&mut Tiff { file, big_endian: true, wide: magic[3] == b'+' })
    } else if &magic[4..] == b"ftypavif" {
        file.seek(start(0))?;
        in_avif(file)
    } else {
        Ok(None)
    }
}

/// The note is in the EXIF block, which lies uncompressed among the image's own data.
fn in_avif<R: Read>(file: &mut R) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.take(MOST_OF_AVIF).read_to_end(&mut bytes)?;
    Ok(note(&bytes))
}

fn in_png<R: Read + Seek>(file: &mut R) -> io::Result<Option<String>> {
    for _ in 0..MOST_BLOCKS {
        let length = u32::from_be_bytes(array(file)?);
        let kind: [u8; 4] = array(file)?;
        match &kind {
            b"IDAT" | b"IEND" => break,
            b"iTXt" | b"tEXt" => {
                if let Some(note) = note(&take(file, length.into())?) {
                    return Ok(Some(note));
                }
                skip(file, 4)?;
            }
            _ => skip(file, u64::from(length) + 4)?,
        }
    }
    Ok(None)
}

fn in_jpeg<R: Read + Seek>(file: &mut R) -> io::Result<Option<String>> {
    for _ in 0..MOST_BLOCKS {
        let [mark, kind]: [u8; 2] = array(file)?;
        // A start of scan ends the header.
        if mark != 0xFF || kind == 0xDA {
            break;
        }
        let length = u64::from(u16::from_be_bytes(array(file)?)).saturating_sub(2);
        if kind != 0xFE {
            skip(file, length)?;
        } else if let Some(note) = note(&take(file, length)?) {
            return Ok(Some(note));
        }
    }
    Ok(None)
}

fn in_webp<R: Read + Seek>(file: &mut R) -> io::Result<Option<String>> {
    for _ in 0..MOST_BLOCKS {
        let kind: [u8; 4] = array(file)?;
        let length = u64::from(u32::from_le_bytes(array(file)?));
        if &kind == b"EXIF" {
            return Ok(note(&take(file, length)?));
        }
        skip(file, length.next_multiple_of(2))?;
    }
    Ok(None)
}

/// A TIFF file, whose integers have the file's byte order, and in a BigTIFF file twice the width.
struct Tiff<'a, R> {
    file: &'a mut R,
    big_endian: bool,
    wide: bool,
}

impl<R: Read + Seek> Tiff<'_, R> {
    fn int<const N: usize>(&mut self) -> io::Result<u64> {
        let bytes: [u8; N] = array(self.file)?;
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Ok(if self.big_endian { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) })
    }

    /// An offset, or a count of values.
    fn word(&mut self) -> io::Result<u64> {
        if self.wide { self.int::<8>() } else { self.int::<4>() }
    }
}

fn in_tiff<R: Read + Seek>(tiff: &mut Tiff<'_, R>) -> io::Result<Option<String>> {
    tiff.file.seek(SeekFrom::Start(if tiff.wide { 8 } else { 4 }))?;
    let directory = tiff.word()?;
    tiff.file.seek(SeekFrom::Start(directory))?;
    let count = if tiff.wide { tiff.int::<8>()? } else { tiff.int::<2>()? };
    for _ in 0..count.min(MOST_BLOCKS as u64) {
        let (tag, _kind) = (tiff.int::<2>()?, tiff.int::<2>()?);
        let (length, at) = (tiff.word()?, tiff.word()?);
        if ![PROCESSING_SOFTWARE, SOFTWARE, DESCRIPTION].map(u64::from).contains(&tag) {
            continue;
        }
        let next = tiff.file.stream_position()?;
        tiff.file.seek(SeekFrom::Start(at))?;
        // Short values lie in the entry itself, and none of them is a note: there the offset leads anywhere.
        let found = take(tiff.file, length.min(MOST_BYTES)).ok().and_then(|bytes| note(&bytes));
        if found.is_some() {
            return Ok(found);
        }
        tiff.file.seek(SeekFrom::Start(next))?;
    }
    Ok(None)
}

/// The note in a block of text or metadata.
fn note(block: &[u8]) -> Option<String> {
    let start = memchr::memmem::find_iter(block, b"upscaled ")
        .find(|&at| memchr::memmem::find(&block[at..block.len().min(at + 40)], b"x by enlarger ").is_some())?;
    let text = block[start..].split(|byte| *byte < b' ').next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The next bytes; of a block that is longer than a note's, none, and it is sought past.
fn take<R: Read + Seek>(file: &mut R, length: u64) -> io::Result<Vec<u8>> {
    if length > MOST_BYTES {
        skip(file, length)?;
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(file: &mut impl Seek, length: u64) -> io::Result<()> {
    // Seeking past the end is not an error until the next read.
    file.seek_relative(i64::try_from(length).unwrap_or(i64::MAX)).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => ErrorKind::UnexpectedEof.into(),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Channels, EncodeOptions, Format, Metadata, Picture, Samples, encode, exif::Parts, ifd::Tag};

    const NOTE: &str = "upscaled 4x by enlarger 0.1.0, x4plus, plan 0123456789ab";

    fn written(format: Format, note: Option<&str>, metadata: Metadata) -> Vec<u8> {
        let picture =
            Picture { width: 5, height: 3, channels: Channels::Rgb, samples: Samples::U8(vec![90; 45]), metadata };
        let options = EncodeOptions { format, provenance: note.map(Into::into), ..EncodeOptions::default() };
        let mut out = Cursor::new(Vec::new());
        encode(&picture, &options, &mut out).expect("it can be encoded");
        out.into_inner()
    }

    fn read(bytes: &[u8]) -> Option<String> {
        provenance(&mut Cursor::new(bytes)).expect("memory can be read")
    }

    #[test]
    fn every_format_that_is_written_says_that_enlarger_made_it() {
        let main = vec![Tag::text(SOFTWARE, "a camera"), Tag::text(DESCRIPTION, "a hill")];
        let exif = Some(Parts { main, ..Parts::default() }.into_block());
        for format in [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff, Format::Avif] {
            for metadata in [Metadata::default(), Metadata { exif: exif.clone(), ..Metadata::default() }] {
                assert_eq!(read(&written(format, Some(NOTE), metadata.clone())).as_deref(), Some(NOTE), "{format:?}");
                assert_eq!(read(&written(format, None, metadata)), None, "{format:?}");
            }
        }
    }

    #[test]
    fn damaged_and_foreign_files_say_nothing() {
        for format in [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff] {
            let whole = written(format, Some(NOTE), Metadata::default());
            for end in 0..whole.len() {
                read(&whole[..end]);
            }
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] = 0xFF;
                read(&bytes);
            }
        }
        assert_eq!(read(format!("a letter about {NOTE}").as_bytes()), None);
        assert_eq!(read(b""), None);
    }
}
