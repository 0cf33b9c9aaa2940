//! Faces: weak, fine detail there is skin; strong detail is eyes, lashes, brows, lips and hair.

use enlarger_image::Picture;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    blur,
    slab::{Slab, add_to_luma},
};
use crate::{extent::Extent, request::Crop};

/// A face: its box from the brows to the chin in shares of the picture's sides, so that it stays where it is at any size. It may
/// reach beyond the picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// The ellipse of a face in boxes of it: half its sides, and how far its middle is above the box's, since some of the forehead lies
/// above it. Seen on a photographed and a drawn face.
const WIDE: f32 = 0.56;
const HIGH: f32 = 0.62;
const RAISED: f32 = 0.05;
/// Where the ellipse begins to fade, and where it has ended, in its radii.
const FADES: [f32; 2] = [0.75, 1.2];

impl Face {
    /// A box in a picture of this size of which a part is used; `None` if it lies outside.
    pub(crate) fn new(face: Crop, part: Crop) -> Option<Self> {
        let side = |start: u32, length: u32, from: u32, whole: u32| {
            let whole = whole as f32;
            ((start as f32 - from as f32) / whole, length as f32 / whole)
        };
        let (x, width) = side(face.x, face.width, part.x, part.width);
        let (y, height) = side(face.y, face.height, part.y, part.height);
        let face = Self { x, y, width, height };
        let [left, top, right, bottom] = face.around();
        (right > 0.0 && bottom > 0.0 && left < 1.0 && top < 1.0).then_some(face)
    }

    /// The box in which it is treated: left, top, right, bottom.
    fn around(&self) -> [f32; 4] {
        let (x, y) = self.middle();
        let (wide, high) = (FADES[1] * WIDE * self.width, FADES[1] * HIGH * self.height);
        [x - wide, y - high, x + wide, y + high]
    }

    fn middle(&self) -> (f32, f32) {
        (self.x + 0.5 * self.width, self.y + (0.5 - RAISED) * self.height)
    }

    /// How much a place belongs to it, 0..=1.
    fn holds(&self, x: f32, y: f32) -> f32 {
        let (middle_x, middle_y) = self.middle();
        let (dx, dy) = ((x - middle_x) / (WIDE * self.width), (y - middle_y) / (HIGH * self.height));
        let t = ((FADES[1] - dx.hypot(dy)) / (FADES[1] - FADES[0])).clamp(0.0, 1.0);
        t * t * (3.0 - 2.0 * t)
    }
}

/// Detail of this deviation counts half as skin and half as feature: pores and a network's dots have some 2/255, lashes and brows 15
/// and more.
const FEATURE: f32 = 9.0 / 255.0;
/// Amplitude above which detail is left alone: beside it a gain would draw halos.
const EDGE: f32 = 0.12;

/// See [`Filter::Skin`](super::Filter::Skin).
pub(super) fn skin(picture: &mut Picture, faces: &[Face], skin: f32, features: f32, radius: f32) {
    let (width, height) = (picture.width as f32, picture.height as f32);
    let window = (1.5 * radius).ceil() as usize;
    let reach = blur::reach(radius) + 2 * window;
    let faces_at = |row: usize| {
        let y = (row as f32 + 0.5) / height;
        faces.iter().filter(move |face| (face.around()[1]..face.around()[3]).contains(&y)).map(move |face| (face, y))
    };
    add_to_luma(picture, reach, |slab: &Slab| {
        let mut out = vec![0.0; slab.rows * slab.width];
        if (slab.y..slab.y + slab.rows).all(|row| faces_at(row).next().is_none()) {
            return out;
        }
        let coarse = blur::gaussian(slab.luma, slab.width, radius);
        let detail: Vec<f32> = slab.luma.par_iter().zip(&coarse).map(|(y, c)| y - c).collect();
        let squares: Vec<f32> = detail.par_iter().map(|d| d * d).collect();
        // Twice, so that the window's own square does not show.
        let energy = blur::mean(&blur::mean(&squares, slab.width, window), slab.width, window);
        let (detail, energy) = (slab.inner(&detail), slab.inner(&energy));
        out.par_chunks_mut(slab.width).enumerate().for_each(|(row, line)| {
            for (face, y) in faces_at(slab.y + row) {
                for (x, o) in line.iter_mut().enumerate() {
                    let held = face.holds((x as f32 + 0.5) / width, y);
                    if held > 0.0 {
                        let (d, e) = (detail[row * slab.width + x], energy[row * slab.width + x]);
                        let smooth = FEATURE * FEATURE / (FEATURE * FEATURE + e);
                        let strong = (1.0 - smooth) * EDGE * EDGE / (EDGE * EDGE + d * d);
                        let change = held * d * (skin * smooth + features * strong);
                        // Where faces meet, the stronger of two.
                        *o = if change.abs() > f32::abs(*o) { change } else { *o };
                    }
                }
            }
        });
        out
    });
}

/// Faces of a whole picture as they lie in the part of it that is used.
pub(crate) fn faces_in(faces: &[Crop], whole: Extent, crop: Option<Crop>) -> Vec<Face> {
    let part = crop.unwrap_or(Crop { x: 0, y: 0, width: whole.width, height: whole.height });
    faces.iter().filter_map(|&face| Face::new(face, part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_stays_where_it_is_when_a_part_of_the_picture_is_used() {
        let face = Crop { x: 100, y: 60, width: 40, height: 50 };
        let whole = Extent { width: 400, height: 200 };
        let held = |crop: Option<Crop>, x: f32, y: f32| {
            let part = crop.unwrap_or(Crop { x: 0, y: 0, width: 400, height: 200 });
            let faces = faces_in(&[face], whole, crop);
            let place = |at: f32, from: u32, side: u32| (at - from as f32) / side as f32;
            faces.first().map_or(0.0, |face| face.holds(place(x, part.x, part.width), place(y, part.y, part.height)))
        };
        for crop in [
            Crop { x: 90, y: 30, width: 80, height: 100 },
            Crop { x: 110, y: 70, width: 290, height: 130 },
            Crop { x: 0, y: 0, width: 130, height: 90 },
        ] {
            for (x, y) in [(120.0, 79.0), (112.0, 95.0), (128.0, 75.0)] {
                let (cropped, all) = (held(Some(crop), x, y), held(None, x, y));
                assert!((cropped - all).abs() < 1e-4 && all > 0.5, "{crop:?}: {cropped} {all}");
            }
        }
        assert_eq!(faces_in(&[face], whole, Some(Crop { x: 200, y: 0, width: 200, height: 200 })), []);
    }
}
