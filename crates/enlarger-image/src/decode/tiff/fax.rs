//! The codes of fax machines: ITU-T T.4 (group 3, in one and in two dimensions) and T.6 (group 4), and TIFF's own variety
//! without marks between rows (TIFF 6.0, section 10).

use fax::{
    BitReader,
    maps::{Mode, black, mode, white},
};

/// How rows are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Runs alone; each row begins at a multiple of so many bits.
    Huffman { align: usize },
    /// Runs, and marks between rows. With `planes`, a bit behind each mark says whether the row builds on the one above.
    Group3 { two_dimensional: bool },
    /// All rows build on the one above.
    Group4,
}

/// Why a picture cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The data ends before the rows do.
    Short,
    /// A code is invalid, or does not fit into its row.
    Damaged,
    /// Uncompressed pixels, which no known program writes.
    Uncompressed,
}

/// Decodes as many rows of `width` bits as `to` holds, the first pixel of a row in the highest bit; 1 is black.
///
/// A mark of the end before the last row leaves the rest white, as fax machines do.
pub fn decode(data: &[u8], coding: Coding, width: usize, to: &mut [u8]) -> Result<(), Fault> {
    let mut bits = Bits { data, at: 0 };
    // Where colours change; the row above the first is white.
    let (mut above, mut row) = (Vec::new(), Vec::new());
    for line in to.chunks_exact_mut(width.div_ceil(8)) {
        row.clear();
        let on_above = match coding {
            Coding::Huffman { align } => {
                bits.at = bits.at.next_multiple_of(align);
                false
            }
            Coding::Group3 { two_dimensional } => {
                let mut marks = 0;
                let mut on_above = false;
                while bits.mark() {
                    marks += 1;
                    on_above = two_dimensional && bits.bit() == 0;
                }
                if marks > 1 {
                    return Ok(());
                }
                on_above
            }
            Coding::Group4 => true,
        };
        if bits.is_empty() {
            return Err(Fault::Short);
        }
        let whole =
            if on_above { bits.row_on(&above, width, &mut row) } else { bits.row(width, &mut row).map(|()| true) };
        match whole {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // Beyond the end all bits are zero, which is not a code.
            Err(_) if bits.is_empty() => return Err(Fault::Short),
            Err(fault) => return Err(fault),
        }
        for run in row.chunks(2) {
            blacken(line, run[0], run.get(1).copied().unwrap_or(width));
        }
        std::mem::swap(&mut above, &mut row);
    }
    Ok(())
}

/// Adds a place where the colour changes. Runs of no pixels change nothing.
fn change(row: &mut Vec<usize>, at: usize, width: usize) {
    if row.last() == Some(&at) {
        row.pop();
    } else if at < width {
        row.push(at);
    }
}

fn blacken(line: &mut [u8], from: usize, to: usize) {
    for x in from..to {
        line[x / 8] |= 0x80 >> (x % 8);
    }
}

/// Bits from the highest of each byte on, and zeros behind the last.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn is_empty(&self) -> bool {
        self.at >= 8 * self.data.len()
    }

    fn bit(&mut self) -> u16 {
        let bit = self.peek(1).unwrap_or(0);
        self.at += 1;
        bit
    }

    /// Passes a mark between rows, if one is next: eleven zeros or more and a one.
    fn mark(&mut self) -> bool {
        if self.peek(11) != Some(0) {
            return false;
        }
        let mut at = self.at + 11;
        while let Some(byte) = self.data.get(at / 8) {
            let zeros = (byte << (at % 8)).leading_zeros() as usize;
            if zeros + at % 8 < 8 {
                self.at = at + zeros + 1;
                return true;
            }
            at = (at / 8 + 1) * 8;
        }
        // Only zeros are left, to fill the last byte.
        self.at = 8 * self.data.len();
        false
    }

    /// The length of a run: any number of codes for multiples of 64, and one for the rest.
    fn run(&mut self, is_black: bool, most: usize) -> Result<usize, Fault> {
        let mut length = 0;
        loop {
            let code = if is_black { black::decode(self) } else { white::decode(self) };
            let part = usize::from(code.ok_or(Fault::Damaged)?);
            length += part;
            if length > most {
                return Err(Fault::Damaged);
            }
            if part < 64 {
                return Ok(length);
            }
        }
    }

    /// A row of runs, white and black in turn.
    fn row(&mut self, width: usize, row: &mut Vec<usize>) -> Result<(), Fault> {
        let (mut at, mut is_black) = (0, false);
        while at < width {
            at += self.run(is_black, width - at)?;
            change(row, at, width);
            is_black = !is_black;
        }
        Ok(())
    }

    /// A row that builds on the one above (T.4, 4.2). `false` at the mark of the end.
    fn row_on(&mut self, above: &[usize], width: usize, row: &mut Vec<usize>) -> Result<bool, Fault> {
        // `start` is the place up to which the row is known: before the first pixel, at first.
        let (mut at, mut begun, mut is_black) = (0, false, false);
        // The first change above that lies behind that place.
        let mut next = 0;
        while at < width {
            while above.get(next).is_some_and(|&change| change < at || begun && change == at) {
                next += 1;
            }
            // Changes to black have even numbers.
            let same = next + usize::from((next % 2 == 1) != is_black);
            let place = |i: usize| above.get(i).copied().unwrap_or(width);
            match mode::decode(self).ok_or(Fault::Damaged)? {
                Mode::Pass => at = place(same + 1),
                Mode::Vertical(by) => {
                    let to = place(same).checked_add_signed(by.into()).ok_or(Fault::Damaged)?;
                    if to < at || to > width {
                        return Err(Fault::Damaged);
                    }
                    at = to;
                    change(row, at, width);
                    is_black = !is_black;
                }
                Mode::Horizontal => {
                    for is_black in [is_black, !is_black] {
                        at += self.run(is_black, width - at)?;
                        change(row, at, width);
                    }
                }
                Mode::Extension => return Err(Fault::Uncompressed),
                Mode::EOF if !begun => return Ok(false),
                Mode::EOF => return Err(Fault::Damaged),
            }
            begun = true;
        }
        Ok(true)
    }
}

impl BitReader for Bits<'_> {
    type Error = std::convert::Infallible;

    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |i: usize| u32::from(self.data.get(self.at / 8 + i).copied().unwrap_or(0));
        let three = byte(0) << 16 | byte(1) << 8 | byte(2);
        Some(((three << (8 + self.at % 8)) >> (32 - u32::from(bits))) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), Self::Error> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (self.at.next_multiple_of(8) - self.at) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits as text, blanks between codes.
    fn bits(text: &str) -> Vec<u8> {
        let bits: Vec<u8> = text.bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
        bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (i, bit)| sum | bit << (7 - i))).collect()
    }

    fn rows(data: &str, coding: Coding, count: usize) -> Result<Vec<u8>, Fault> {
        let mut to = vec![0; count];
        decode(&bits(data), coding, 8, &mut to).map(|()| to)
    }

    // Codes of T.4, tables 2 and 4: white 2 is 0111, white 3 1000, white 0 00110101, black 3 10, black 5 0011, black 8 000101.
    #[test]
    fn runs_alternate_and_rows_start_where_they_should() {
        assert_eq!(
            rows("0111 10 1000 000000 00110101 000101", Coding::Huffman { align: 8 }, 2),
            Ok(vec![0b0011_1000, 0xFF])
        );
        assert_eq!(rows("0111 10 1000", Coding::Huffman { align: 8 }, 2), Err(Fault::Short));
        // White of 2 and white of 3 have no black between them.
        assert_eq!(rows("0111 10 0111 10 1000", Coding::Huffman { align: 8 }, 1), Err(Fault::Damaged));
    }

    #[test]
    fn marks_part_rows_and_six_end_them() {
        const MARK: &str = "000000000001";
        let group3 = Coding::Group3 { two_dimensional: false };
        let data = format!("{MARK} 0111 10 1000 0000 {MARK} 00110101 000101 {MARK}{MARK}{MARK}{MARK}{MARK}{MARK}");
        assert_eq!(rows(&data, group3, 3), Ok(vec![0b0011_1000, 0xFF, 0]));
        let both = Coding::Group3 { two_dimensional: true };
        // The second row is the first moved by one to the right: VR1 is 011.
        assert_eq!(
            rows(&format!("{MARK}1 0111 10 1000 {MARK}0 011 011 1"), both, 2),
            Ok(vec![0b0011_1000, 0b0001_1100])
        );
    }

    #[test]
    fn rows_build_on_the_one_above() {
        // Horizontal 001; V0 1; pass 0001; the end is two marks.
        let data = "001 0111 10 1  1 1 1  0001 1  000000000001 000000000001";
        assert_eq!(rows(data, Coding::Group4, 4), Ok(vec![0b0011_1000, 0b0011_1000, 0, 0]));
        assert_eq!(rows("0000001 111", Coding::Group4, 1), Err(Fault::Uncompressed));
    }
}
