//! TIFF files in every form that `tiffcp` of libtiff writes give the pixels that went into them.

mod support;

use std::{fs, path::Path, process::Command};

use enlarger_image::{Limits, Samples, decode};
use rayon::prelude::*;

const WIDTH: usize = 45;
const HEIGHT: usize = 38;

/// A file without compression, and what a decoder has to make of it.
struct Source {
    name: &'static str,
    /// Bits of a sample.
    bits: u32,
    /// Stored samples of a pixel.
    samples: usize,
    planar: bool,
    file: Vec<u8>,
    /// Samples of the decoded picture, of 8 bits unless those of the file have 16.
    expected: Vec<u16>,
    /// By how much samples may be off.
    tolerance: u16,
}

/// PhotometricInterpretation.
const WHITE_IS_ZERO: u32 = 0;
const BLACK_IS_ZERO: u32 = 1;
const RGB: u32 = 2;
const PALETTE: u32 = 3;
const CMYK: u32 = 5;

const LAYOUTS: [(&str, u32, u32, usize); 16] = [
    ("1 bit, white is 0", WHITE_IS_ZERO, 1, 1),
    ("1 bit, black is 0", BLACK_IS_ZERO, 1, 1),
    ("grey of 4 bits", BLACK_IS_ZERO, 4, 1),
    ("grey of 8 bits", BLACK_IS_ZERO, 8, 1),
    ("grey of 8 bits, white is 0", WHITE_IS_ZERO, 8, 1),
    ("grey of 16 bits", BLACK_IS_ZERO, 16, 1),
    ("grey and alpha of 8 bits", BLACK_IS_ZERO, 8, 2),
    ("palette of 4 bits", PALETTE, 4, 1),
    ("palette of 8 bits", PALETTE, 8, 1),
    ("RGB of 8 bits", RGB, 8, 3),
    ("RGB of 16 bits", RGB, 16, 3),
    ("RGBA of 8 bits", RGB, 8, 4),
    ("RGBA of 16 bits", RGB, 16, 4),
    ("CMYK of 8 bits", CMYK, 8, 4),
    ("CMYK of 16 bits", CMYK, 16, 4),
    ("RGB of 8 bits and a sample that is no alpha", RGB, 8, 4),
];

impl Source {
    fn new((name, photometric, bits, samples): (&'static str, u32, u32, usize), planar: bool) -> Self {
        let most = (1u32 << bits) - 1;
        // Smooth, so that JPEG keeps it; in 16 bits the low byte is busy. One bit makes runs of all lengths.
        let value = |x: usize, y: usize, c: usize| -> u32 {
            let slope = (x * (3 + c) + y * (5 - c) + 20 * c) as u32;
            match bits {
                1 => ((x / (1 + y % 9) + x * y / 50) % 2) as u32,
                4 => slope / 9 % 16,
                8 => slope.min(255),
                _ => (slope * 199 + (x * y * 37) as u32 % 256) & most,
            }
        };
        let places = || (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
        let pixels: Vec<Vec<u32>> = places().map(|(x, y)| (0..samples).map(|c| value(x, y, c)).collect()).collect();
        let rows = |of_pixel: &dyn Fn(&[u32]) -> Vec<u32>| -> Vec<u8> {
            let row = |row: &[Vec<u32>]| bytes(&row.iter().flat_map(|pixel| of_pixel(pixel)).collect::<Vec<_>>(), bits);
            pixels.chunks(WIDTH).flat_map(row).collect()
        };
        let planes: Vec<Vec<u8>> = if planar {
            (0..samples).map(|c| rows(&|pixel| vec![pixel[c]])).collect()
        } else {
            vec![rows(&<[u32]>::to_vec)]
        };
        let palette: Vec<u32> = (0..3 << bits).map(|i| (i * 97 + 11) % 256 * 257).collect();
        let no_alpha = name.ends_with("no alpha");
        let length = planes[0].len() as u32;
        let starts: Vec<u32> = (0..planes.len() as u32).map(|plane| 8 + plane * length).collect();
        let (bits_of_each, lengths) = (vec![bits; samples], vec![length; planes.len()]);
        let (width, height, count) = ([WIDTH as u32], [HEIGHT as u32], [samples as u32]);
        let (photometric_field, planar_field) = ([photometric], [1 + u32::from(planar)]);
        let mut fields: Vec<(u16, &[u32])> = vec![
            (256, &width),
            (257, &height),
            (258, &bits_of_each),
            (259, &[1]),
            (262, &photometric_field),
            (273, &starts),
            (277, &count),
            (278, &height),
            (279, &lengths),
            (284, &planar_field),
        ];
        if photometric == PALETTE {
            fields.push((320, &palette));
        }
        if matches!(name, "grey and alpha of 8 bits") || photometric == RGB && samples == 4 {
            fields.push((338, if no_alpha { &[0] } else { &[2] }));
        }
        let file = support::tiff(&planes.concat(), &fields);

        let of_eight = |v: u32| if bits < 8 { v * 255 / most } else { v };
        let expected = pixels.iter().flat_map(|pixel| -> Vec<u32> {
            match photometric {
                WHITE_IS_ZERO => vec![of_eight(most - pixel[0])],
                PALETTE => (0..3).map(|c| palette[(c << bits) + pixel[0] as usize] / 257).collect(),
                // Ideal inks: each leaves its part of the light, and black its part of that.
                CMYK => {
                    let left = |ink: u32| f64::from(most - ink) / f64::from(most);
                    pixel[..3]
                        .iter()
                        .map(|&ink| (left(ink) * left(pixel[3]) * f64::from(most)).round() as u32)
                        .collect()
                }
                _ => pixel.iter().take(if no_alpha { 3 } else { 4 }).map(|&v| of_eight(v)).collect(),
            }
        });
        let expected = expected.map(|v| v as u16).collect();
        // Products of inks may be rounded either way.
        let tolerance = u16::from(photometric == CMYK);
        Self { name, bits, samples, planar, file, expected, tolerance }
    }

    /// Whether `tiffcp` can make that of it: it parts and joins samples of 8 bits alone, and garbles others' planes in tiles.
    fn becomes(&self, planes: &str, parts: &[&str]) -> bool {
        match planes {
            "separate" => self.samples > 1 && (self.bits == 8 || self.planar && !parts.contains(&"-t")),
            _ => !self.planar,
        }
    }

    /// What is wrong with what a file gives: greatest and mean difference.
    fn differences(&self, file: &[u8], what: &str) -> (u16, f64) {
        let decoded = decode(file, &Limits::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
        let picture = decoded.picture;
        assert_eq!((picture.width as usize, picture.height as usize), (WIDTH, HEIGHT), "{what}");
        let found: Vec<u16> = match picture.samples {
            Samples::U8(samples) if self.bits <= 8 => samples.into_iter().map(u16::from).collect(),
            Samples::U16(samples) if self.bits == 16 => samples,
            _ => panic!("{what}: another depth"),
        };
        assert_eq!(found.len(), self.expected.len(), "{what}");
        let off = found.iter().zip(&self.expected).map(|(a, b)| a.abs_diff(*b));
        (off.clone().max().unwrap_or(0), off.map(f64::from).sum::<f64>() / found.len() as f64)
    }
}

/// A row's samples as bytes, the first in the highest bits.
fn bytes(row: &[u32], bits: u32) -> Vec<u8> {
    if bits == 16 {
        return row.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect();
    }
    let join = |byte: &[u32]| (0u32..).zip(byte).fold(0, |sum, (i, v)| sum | v << (8 - bits * (i + 1))) as u8;
    row.chunks(8 / bits as usize).map(join).collect()
}

/// What `tiffcp` makes of a source.
fn copied(source: &Path, arguments: &[&str], to: &Path) -> Vec<u8> {
    let ran = Command::new("tiffcp").args(arguments).args([source, to]).output();
    let ran = ran.unwrap_or_else(|e| panic!("tiffcp of libtiff-tools (see `make test-setup`): {e}"));
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    let file = fs::read(to).expect("a file");
    fs::remove_file(to).expect("a file");
    file
}

const ORDERS: [&[&str]; 4] = [&["-L"], &["-B"], &["-L", "-8"], &["-B", "-8"]];
const FILL: [&str; 2] = ["msb2lsb", "lsb2msb"];
/// Strips and tiles whose last is not full.
const PARTS: [&[&str]; 3] = [&["-s", "-r", "16"], &["-s", "-r", "100"], &["-t", "-w", "16", "-l", "32"]];

const PLANES: [&str; 2] = ["contig", "separate"];

/// Runs `tiffcp` with every combination, and gives the number of files.
fn sweep(
    sources: &[Source],
    planes: &[&str],
    compressions: &[&str],
    check: impl Fn(&Source, &[u8], &str) + Sync,
) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: String| folder.path().join(name);
    let mut jobs = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        fs::write(place(format!("{i}.tif")), &source.file).expect("a file");
        for order in ORDERS {
            for fill in FILL {
                for parts in PARTS {
                    for &planes in planes.iter().filter(|planes| source.becomes(planes, parts)) {
                        for compression in compressions {
                            jobs.push((i, [&["-c", compression, "-f", fill, "-p", planes], order, parts].concat()));
                        }
                    }
                }
            }
        }
    }
    let files = jobs.len();
    jobs.into_par_iter().enumerate().for_each(|(job, (i, arguments))| {
        let file = copied(&place(format!("{i}.tif")), &arguments, &place(format!("{i}-{job}.tif")));
        let source = &sources[i];
        check(source, &file, &format!("{}: {}", source.name, arguments.join(" ")));
    });
    files
}

fn is_equal(source: &Source, file: &[u8], what: &str) {
    let (most, _) = source.differences(file, what);
    assert!(most <= source.tolerance, "{what}: off by up to {most}");
}

fn sources(wanted: impl Fn(&Source) -> bool) -> Vec<Source> {
    let interleaved = LAYOUTS.into_iter().map(|layout| Source::new(layout, false));
    let planes = LAYOUTS.into_iter().filter(|&(_, _, bits, samples)| bits == 16 && samples > 1);
    interleaved.chain(planes.map(|layout| Source::new(layout, true))).filter(wanted).collect()
}

#[test]
fn every_form_of_tiff_gives_the_pixels_that_went_in() {
    let all = sources(|_| true);
    for source in &all {
        is_equal(source, &source.file, source.name);
    }
    let files = sweep(&all, &PLANES, &["none", "packbits", "lzw", "zip"], is_equal);
    // Differences are for samples of whole bytes.
    let files = files + sweep(&sources(|s| s.bits >= 8), &PLANES, &["lzw:2", "zip:2"], is_equal);
    assert_eq!(files, 3120);
}

#[test]
fn every_fax_code_gives_the_pixels_that_went_in() {
    let codes = ["g3:1d", "g3:1d:fill", "g3:2d", "g3:2d:fill", "g4"];
    let files = sweep(&sources(|s| s.bits == 1), &PLANES, &codes, is_equal);
    assert_eq!(files, 240);
}

#[test]
fn jpeg_in_tiff_gives_nearly_the_pixels_that_went_in() {
    let whole_bytes = sources(|s| s.bits == 8 && !s.name.starts_with("palette"));
    let files = sweep(&whole_bytes, &PLANES, &["jpeg:r:100"], |source, file, what| {
        let (most, mean) = source.differences(file, what);
        assert!(most <= 8 && mean < 1.0, "{what}: off by up to {most}, by {mean} in the mean");
    });
    // Colours are halved in both directions: slopes are smooth, edges of strips are not. Of planes, TIFF 6.0 and tiffcp say
    // different things.
    let rgb = sources(|s| s.name == "RGB of 8 bits");
    let files = files
        + sweep(&rgb, &["contig"], &["jpeg:95"], |source, file, what| {
            let (_, mean) = source.differences(file, what);
            assert!(mean < 2.0, "{what}: off by {mean} in the mean");
        });
    assert_eq!(files, 312);
}
