//! A file that is read in pieces, between which reading can be cancelled.

use std::io::{BufRead, Error, Read, Result, Seek, SeekFrom};

use super::Cancelled;

/// Bytes that are read between two checks. Even inflated a thousandfold they take only a moment.
const PIECE: usize = 1 << 14;

/// The bytes of a file, with a check before each piece.
pub(super) struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the next piece begins.
    ask_at: usize,
    cancelled: Cancelled<'a>,
}

impl<'a> Pieces<'a> {
    pub fn of(bytes: &'a [u8], cancelled: Cancelled<'a>) -> Self {
        Self { bytes, at: 0, ask_at: 0, cancelled }
    }
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.at >= self.ask_at {
            if (self.cancelled)() {
                return Err(Error::other("cancelled"));
            }
            self.ask_at = self.at.saturating_add(PIECE);
        }
        let start = self.at.min(self.bytes.len());
        Ok(&self.bytes[start..self.ask_at.clamp(start, self.bytes.len())])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        let count = self.fill_buf()?.read(to)?;
        self.consume(count);
        Ok(count)
    }
}

impl Seek for Pieces<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (0, i64::try_from(at).ok()),
            SeekFrom::Current(by) => (self.at, Some(by)),
            SeekFrom::End(by) => (self.bytes.len(), Some(by)),
        };
        let at = by.and_then(|by| (base as u64).checked_add_signed(by)).and_then(|at| usize::try_from(at).ok());
        self.at = at.ok_or_else(|| Error::other("a position outside the file"))?;
        // Elsewhere a new piece begins.
        self.ask_at = self.at;
        Ok(self.at as u64)
    }
}
