//! What several tests need.

/// A little-endian TIFF file of one picture: `data` lies at byte 8, the directory behind it. A field's values are of type SHORT
/// if all fit, else LONG (TIFF 6.0, section 2).
pub fn tiff(data: &[u8], fields: &[(u16, &[u32])]) -> Vec<u8> {
    let at = (8 + data.len()).next_multiple_of(2);
    let mut file = [b"II*\0", &(at as u32).to_le_bytes()[..], data].concat();
    file.resize(at, 0);
    let mut values = Vec::new();
    let values_at = at + 2 + 12 * fields.len() + 4;
    file.extend((fields.len() as u16).to_le_bytes());
    assert!(fields.is_sorted_by_key(|field| field.0));
    for &(tag, numbers) in fields {
        let short = numbers.iter().all(|&n| n <= u16::MAX.into());
        let size = if short { 2 } else { 4 };
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()[..size].to_vec()).collect();
        file.extend(tag.to_le_bytes());
        file.extend((if short { 3u16 } else { 4 }).to_le_bytes());
        file.extend((numbers.len() as u32).to_le_bytes());
        if bytes.len() > 4 {
            file.extend(((values_at + values.len()) as u32).to_le_bytes());
            values.append(&mut bytes);
        } else {
            bytes.resize(4, 0);
            file.append(&mut bytes);
        }
    }
    file.extend([0; 4]);
    file.append(&mut values);
    file
}
