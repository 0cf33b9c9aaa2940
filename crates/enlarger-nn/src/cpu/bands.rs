//! How a strip is cut into bands of rows.

use std::ops::Range;

use crate::model::Strip;

/// The bands of a strip. Each convolution looks one row ahead, so it is one row behind its source (the *skew*): in a
/// step, the one at depth d computes rows `step * band - d` and the following, and remembers the last rows of its source
/// for the next step. So no row is computed twice, and none is approximate.
///
/// With a band of 4 rows, the convolutions at depths 1 and 2 compute:
///
/// ```text
/// step    0      1      2     ...
/// d = 1   0..3   3..7   7..11
/// d = 2   0..2   2..6   6..10
/// ```
pub struct Bands {
    height: usize,
    band: usize,
    /// 0 if the whole height is one band, so that nothing need be remembered.
    skew: usize,
}

impl Bands {
    /// The fewest rows of a band: with less, most time would go to moving memory.
    pub const LEAST: usize = 16;

    /// Bands of the strip's choice, or of about `pixels` pixels of a map; a pixel of it is `alignment` pixels of the image
    /// wide and high.
    pub fn new(strip: &Strip<'_>, alignment: usize, pixels: usize) -> Self {
        let (width, height) = (strip.width / alignment, strip.height / alignment);
        // Winograd works on four rows at once.
        let band = strip.band.map_or(usize::MAX, |band| band / alignment).min(pixels / width);
        let band = band.next_multiple_of(4).max(Self::LEAST);
        // What does not fill two bands is done in one.
        if height < 2 * band { Self { height, band: height, skew: 0 } } else { Self { height, band, skew: 1 } }
    }

    /// The most rows that a map holds.
    pub fn room(&self) -> usize {
        self.band
    }

    /// Steps until the result of depth `last` is complete.
    pub fn steps(&self, last: usize) -> usize {
        (self.height + last * self.skew).div_ceil(self.band)
    }

    /// Rows that a convolution at a depth computes in a step.
    pub fn rows(&self, step: usize, depth: usize) -> Range<usize> {
        let row = |edge: usize| edge.saturating_sub(depth * self.skew).min(self.height);
        row(step * self.band)..row((step + 1) * self.band)
    }

    /// How many rows must be remembered of a map that is read `rows` rows behind.
    pub fn keep(&self, rows: usize) -> usize {
        rows * self.skew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bands(width: usize, height: usize, band: Option<usize>, alignment: usize, pixels: usize) -> Bands {
        Bands::new(&Strip { width, height, band, read: &|_, _| {} }, alignment, pixels)
    }

    #[test]
    fn each_depth_computes_every_row_once_and_never_before_its_source() {
        for (height, band) in [(100, 16), (37, 16), (64, 24), (33, 100), (1, 16)] {
            let bands = bands(50, height, Some(band), 1, 1 << 20);
            let last = 7;
            for depth in 0..=last {
                let mut done = 0;
                for step in 0..bands.steps(last) {
                    let rows = bands.rows(step, depth);
                    assert!(rows.start == done.min(height) && rows.len() <= bands.room(), "{height} {band} {depth}");
                    done = rows.end;
                    if depth > 0 {
                        let source = bands.rows(step, depth - 1);
                        assert!(rows.end < source.end || source.end == height, "it looks a row ahead");
                        let remembered = source.start.saturating_sub(bands.keep(2));
                        assert!(rows.is_empty() || rows.start.saturating_sub(1) >= remembered, "and one back");
                    }
                }
                assert_eq!(done, height, "depth {depth} of {height} rows");
            }
        }
    }

    #[test]
    fn a_band_has_whole_winograd_tiles_and_a_least_height() {
        // 50 wide: 3000 pixels are 60 rows.
        assert_eq!(bands(50, 1000, None, 1, 3000).room(), 60);
        assert_eq!(bands(50, 1000, None, 1, 3050).room(), 64, "rounded up to a multiple of 4");
        assert_eq!(bands(50, 1000, Some(1), 1, 3000).room(), 16);
        assert_eq!(bands(5000, 1000, None, 1, 3000).room(), 16);
        assert_eq!(bands(200, 4000, Some(80), 4, 1 << 20).room(), 20, "in pixels of the map");
    }

    #[test]
    fn what_does_not_fill_two_bands_is_one_and_remembers_nothing() {
        let one = bands(50, 119, None, 1, 3000);
        assert_eq!((one.room(), one.steps(9), one.keep(2), one.rows(0, 9)), (119, 1, 0, 0..119));
        let two = bands(50, 120, None, 1, 3000);
        assert_eq!((two.room(), two.steps(9), two.keep(2), two.rows(0, 9)), (60, 3, 2, 0..51));
    }
}
