//! The image as a network's first convolution reads it.

use std::ops::Range;

use rayon::prelude::*;

use super::bands::Bands;
use crate::{
    error::NnError,
    kernels::{Element, Map, View, zeroed},
    model::Strip,
};

/// The network's input, unshuffled where `r` > 1: blocks of `r` x `r` pixels become channels (`c * r * r + dy * r + dx`).
/// The strip's sides are multiples of `r`.
pub struct Input<'a, T> {
    strip: &'a Strip<'a>,
    /// Colours that the network reads; one is their mean.
    colours: usize,
    r: usize,
    map: Map<T>,
    rgb: Vec<f32>,
}

impl<'a, T: Element> Input<'a, T> {
    /// # Errors
    /// [`NnError::Memory`] if there is not enough.
    pub fn new(strip: &'a Strip<'a>, colours: usize, r: usize, bands: &Bands) -> Result<Self, NnError> {
        // One more row above, and one below.
        let rows = bands.room() + 2;
        Ok(Self {
            strip,
            colours,
            r,
            map: Map::new(strip.width / r, rows, (colours * r * r).next_multiple_of(T::CHANNELS))?,
            rgb: zeroed(rows * r * strip.width * 3)?,
        })
    }

    /// What a convolution that computes some rows reads.
    pub fn read(&mut self, rows: &Range<usize>) -> View<'_, T> {
        let Strip { width, height, read, .. } = *self.strip;
        let (r, colours) = (self.r, self.colours);
        let rows = rows.start.saturating_sub(1)..(rows.end + 1).min(height / r);
        let rgb = &mut self.rgb[..rows.len() * r * width * 3];
        read(rows.start * r..rows.end * r, rgb);
        self.map.hold(rows);
        let (w, c, stride) = (self.map.width, self.map.channels, self.map.stride());
        let rows = self.map.rows_mut().par_chunks_exact_mut(stride);
        rows.zip(rgb.par_chunks_exact(r * width * 3)).for_each(|(row, rgb)| {
            for (x, pixel) in row[c..].chunks_exact_mut(c).take(w).enumerate() {
                for dy in 0..r {
                    for dx in 0..r {
                        let rgb = &rgb[(dy * width + x * r + dx) * 3..][..3];
                        for colour in 0..colours {
                            let value = if colours == 1 { (rgb[0] + rgb[1] + rgb[2]) / 3.0 } else { rgb[colour] };
                            pixel[colour * r * r + dy * r + dx] = T::from_f32(value);
                        }
                    }
                }
            }
        });
        self.map.alone()
    }
}
