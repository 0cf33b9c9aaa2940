//! IPTC-IIM records, and the blocks of Photoshop's that they lie in: "8BIM", a number, a name, a length, data (Adobe Photoshop
//! File Formats Specification, "Image Resource Blocks").

/// What stands before the blocks in a JPEG's segment.
pub(crate) const PHOTOSHOP: &[u8] = b"Photoshop 3.0\0";

const SIGNATURE: &[u8] = b"8BIM";
const IPTC: u16 = 0x0404;
/// A record begins with this byte.
const RECORD: u8 = 0x1C;

/// The records, from blocks or bare.
pub(crate) fn of_resources(mut bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.first() == Some(&RECORD) {
        return Some(bytes.to_vec());
    }
    loop {
        let rest = bytes.strip_prefix(SIGNATURE)?;
        let id = u16::from_be_bytes(rest.get(..2)?.try_into().ok()?);
        // The name's length, the name, and padding to an even number of bytes.
        let name = (1 + usize::from(*rest.get(2)?)).next_multiple_of(2);
        let at = 2 + name;
        let length = u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?) as usize;
        let data = rest.get(at + 4..)?;
        if id == IPTC {
            return data.get(..length).filter(|records| records.first() == Some(&RECORD)).map(<[u8]>::to_vec);
        }
        bytes = data.get(length.checked_next_multiple_of(2)?..)?;
    }
}

/// A block with the records.
pub(crate) fn to_resource(records: &[u8]) -> Vec<u8> {
    let mut block = SIGNATURE.to_vec();
    block.extend(IPTC.to_be_bytes());
    // No name.
    block.extend([0, 0]);
    block.extend((records.len() as u32).to_be_bytes());
    block.extend(records);
    block.resize(block.len().next_multiple_of(2), 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_behind_other_blocks_and_nowhere_else() {
        let records = [RECORD, 2, 25, 0, 3, b'c', b'a', b't'];
        let other = b"8BIM\x03\xED\x05title\0\0\0\x03abc\0".to_vec();
        assert_eq!(of_resources(&[other.clone(), to_resource(&records)].concat()), Some(records.to_vec()));
        assert_eq!(of_resources(&records), Some(records.to_vec()));
        assert_eq!(of_resources(&other), None);
        assert_eq!(of_resources(&to_resource(&records)[..14]), None);
    }
}
