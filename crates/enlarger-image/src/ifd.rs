//! Directories of TIFF structures, which TIFF files and EXIF blocks are made of (TIFF 6.0, section 2; BigTIFF's 64-bit fields).

/// A file that can be cut into fields: its byte order and whether offsets have 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct Structure<'a> {
    pub bytes: &'a [u8],
    pub order: Order,
    pub big: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

/// One field as it is in a file.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub tag: u16,
    pub kind: u16,
    pub count: u64,
    /// The values in the file's byte order; `None` where they lie outside of the file.
    pub data: Option<&'a [u8]>,
}

/// One field to be written; the values are little-endian.
#[derive(Clone)]
pub(crate) struct Tag {
    pub tag: u16,
    pub kind: u16,
    pub count: u64,
    pub data: Vec<u8>,
}

pub(crate) const ASCII: u16 = 2;
pub(crate) const SHORT: u16 = 3;
pub(crate) const LONG: u16 = 4;
pub(crate) const RATIONAL: u16 = 5;
const LONG8: u16 = 16;

/// Bytes of one value.
pub(crate) fn size_of_kind(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 | 17 | 18 => Some(8),
        _ => None,
    }
}

impl Order {
    pub fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let b = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self == Self::Little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) })
    }

    pub fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let b = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self == Self::Little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) })
    }

    pub fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let b = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
        Some(if self == Self::Little { u64::from_le_bytes(b) } else { u64::from_be_bytes(b) })
    }

    pub fn put_u16(self, bytes: &mut [u8], at: usize, value: u16) {
        let b = if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        if let Some(place) = bytes.get_mut(at..at.saturating_add(2)) {
            place.copy_from_slice(&b);
        }
    }

    pub fn put_u32(self, bytes: &mut [u8], at: usize, value: u32) {
        let b = if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        if let Some(place) = bytes.get_mut(at..at.saturating_add(4)) {
            place.copy_from_slice(&b);
        }
    }
}

impl<'a> Structure<'a> {
    /// Reads the header; also gives the offset of the first directory.
    pub fn open(bytes: &'a [u8]) -> Option<(Self, u64)> {
        let (order, big) = match bytes.get(..4)? {
            b"II*\0" => (Order::Little, false),
            b"MM\0*" => (Order::Big, false),
            b"II+\0" => (Order::Little, true),
            b"MM\0+" => (Order::Big, true),
            _ => return None,
        };
        let first = if big { order.u64(bytes, 8)? } else { u64::from(order.u32(bytes, 4)?) };
        Some((Self { bytes, order, big }, first))
    }

    /// The entries of the directory at an offset and the offset of the next directory (0: none). `None` if the file ends before.
    pub fn directory(&self, at: u64) -> Option<(Vec<Entry<'a>>, u64)> {
        let at = usize::try_from(at).ok()?;
        let (count, start) = if self.big {
            (usize::try_from(self.order.u64(self.bytes, at)?).ok()?, at.checked_add(8)?)
        } else {
            (usize::from(self.order.u16(self.bytes, at)?), at.checked_add(2)?)
        };
        // BigTIFF counts in 64 bits; nobody has more fields than the other kind can count.
        if count > usize::from(u16::MAX) {
            return None;
        }
        let size = if self.big { 20 } else { 12 };
        let end = start.checked_add(count.checked_mul(size)?)?;
        let fields = self.bytes.get(start..end)?;
        let next =
            if self.big { self.order.u64(self.bytes, end) } else { self.order.u32(self.bytes, end).map(u64::from) };
        Some((fields.chunks_exact(size).filter_map(|field| self.entry(field)).collect(), next.unwrap_or(0)))
    }

    fn entry(&self, field: &'a [u8]) -> Option<Entry<'a>> {
        let (tag, kind) = (self.order.u16(field, 0)?, self.order.u16(field, 2)?);
        let (count, inline) =
            if self.big { (self.order.u64(field, 4)?, 12) } else { (u64::from(self.order.u32(field, 4)?), 8) };
        let size = usize::try_from(size_of_kind(kind)?.checked_mul(count)?).ok()?;
        let data = if size <= field.len() - inline {
            field.get(inline..inline + size)
        } else {
            let at = if self.big { self.order.u64(field, inline)? } else { u64::from(self.order.u32(field, inline)?) };
            usize::try_from(at).ok().and_then(|at| self.bytes.get(at..at.checked_add(size)?))
        };
        Some(Entry { tag, kind, count, data })
    }
}

impl Entry<'_> {
    /// The `i`th value as a number, for the whole-number kinds.
    pub fn number(&self, order: Order, i: usize) -> Option<u64> {
        let data = self.data?;
        match self.kind {
            1 | 7 => data.get(i).map(|&b| u64::from(b)),
            3 => order.u16(data, i * 2).map(u64::from),
            4 | 13 => order.u32(data, i * 4).map(u64::from),
            16 | 18 => order.u64(data, i * 8),
            _ => None,
        }
    }

    /// A fraction, if it is positive and finite.
    pub fn rational(&self, order: Order) -> Option<f32> {
        let data = self.data?;
        let (n, d) = (order.u32(data, 0)?, order.u32(data, 4)?);
        (self.kind == RATIONAL && n > 0 && d > 0).then(|| (f64::from(n) / f64::from(d)) as f32)
    }

    /// A copy to be written elsewhere.
    pub fn to_tag(self, order: Order) -> Option<Tag> {
        let mut tag = Tag { tag: self.tag, kind: self.kind, count: self.count, data: self.data?.to_vec() };
        if order == Order::Big {
            tag.data = tag.swapped();
        }
        Some(tag)
    }
}

impl Tag {
    /// The values in the other byte order.
    pub fn swapped(&self) -> Vec<u8> {
        let size = match self.kind {
            // A rational is two numbers of four bytes.
            5 | 10 => 4,
            kind => size_of_kind(kind).unwrap_or(1) as usize,
        };
        self.data.chunks_exact(size).flat_map(|value| value.iter().rev().copied()).collect()
    }

    pub fn longs(tag: u16, values: &[u64], big: bool) -> Self {
        let data = if big {
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        } else {
            values.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect()
        };
        Self { tag, kind: if big { LONG8 } else { LONG }, count: values.len() as u64, data }
    }

    pub fn text(tag: u16, text: &str) -> Self {
        let mut data: Vec<u8> = text.bytes().filter(|&b| b != 0).collect();
        data.push(0);
        Self { tag, kind: ASCII, count: data.len() as u64, data }
    }
}

/// A little-endian directory that is to lie at offset `at`, with its values behind it. Its length is even.
pub(crate) fn serialise(mut tags: Vec<Tag>, at: u64, big: bool) -> Vec<u8> {
    tags.sort_by_key(|tag| tag.tag);
    tags.dedup_by_key(|tag| tag.tag);
    let (count_size, entry_size, inline) = if big { (8, 20, 8) } else { (2, 12, 4) };
    let mut values_at = count_size + tags.len() * entry_size + inline;
    let mut fields = Vec::new();
    let mut values = Vec::new();
    fields.extend_from_slice(&(tags.len() as u64).to_le_bytes()[..count_size]);
    for Tag { tag, kind, count, data } in tags {
        fields.extend_from_slice(&tag.to_le_bytes());
        fields.extend_from_slice(&kind.to_le_bytes());
        fields.extend_from_slice(&count.to_le_bytes()[..inline]);
        let start = fields.len();
        if data.len() <= inline {
            fields.extend_from_slice(&data);
            fields.resize(start + inline, 0);
        } else {
            fields.extend_from_slice(&(at + values_at as u64).to_le_bytes()[..inline]);
            values.extend_from_slice(&data);
            values.resize(values.len().next_multiple_of(2), 0);
            values_at += data.len().next_multiple_of(2);
        }
    }
    // No next directory.
    fields.resize(fields.len() + inline, 0);
    fields.append(&mut values);
    fields
}
