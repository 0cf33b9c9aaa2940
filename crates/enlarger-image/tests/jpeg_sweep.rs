//! JPEG files in every layout that `cjpeg` writes give the pixels that `djpeg` says (both of libjpeg-turbo).

use std::{fs, path::Path, process::Command};

use enlarger_image::{Limits, Picture, Samples, decode};
use rayon::prelude::*;

/// A file's pixels as `djpeg` sees them: width, height, samples of a pixel, samples.
type Reference = (u32, u32, usize, Vec<u8>);

fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut ppm = format!("P6\n{width} {height}\n255\n").into_bytes();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let edge = if (x / 5 + y / 7) % 2 == 0 { 60 } else { 0 };
        ppm.extend(
            [(x * 9 + y * 3 + edge) % 256, (y * 7 + edge) % 256, (255 + x * 2 - (y % 255)) % 256].map(|v| v as u8),
        );
    }
    ppm
}

/// Runs a program of libjpeg-turbo; `None` if it refuses the arguments.
fn run(program: &str, arguments: &[&str], input: &Path, output: &Path) -> Option<()> {
    let ran = Command::new(program).args(arguments).arg("-outfile").arg(output).arg(input).output();
    let ran = ran.unwrap_or_else(|e| panic!("{program} of libjpeg-turbo-progs: {e}"));
    ran.status.success().then_some(())
}

/// Reads what `djpeg` wrote: P5 or P6.
fn reference(file: &Path) -> Reference {
    let pnm = fs::read(file).expect("djpeg's picture");
    let mut words = pnm.splitn(4, |b| b.is_ascii_whitespace());
    let mut word = || std::str::from_utf8(words.next().expect("a header")).expect("text").to_owned();
    let (kind, width, height) = (word(), word().parse().expect("width"), word().parse().expect("height"));
    let samples = words.next().expect("samples")[4..].to_vec();
    (width, height, if kind == "P5" { 1 } else { 3 }, samples)
}

/// Greatest and mean difference of samples.
fn differences(found: &Picture, expected: &Reference) -> (u8, f64) {
    let Samples::U8(samples) = &found.samples else { panic!("16 bits") };
    let (width, height, channels, ref wanted) = *expected;
    assert_eq!((found.width, found.height, found.channels.count()), (width, height, channels));
    assert_eq!(samples.len(), wanted.len());
    let off = samples.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b));
    (off.clone().max().unwrap_or(0), off.map(f64::from).sum::<f64>() / wanted.len() as f64)
}

const SIZES: [(u32, u32); 8] = [(1, 1), (3, 2), (8, 8), (17, 13), (64, 48), (88, 88), (9, 130), (131, 7)];

/// Of the three components; a component that is not named has 1x1. None is grey.
const SAMPLINGS: [&str; 19] = [
    "1x1",
    "2x1",
    "1x2",
    "2x2",
    "4x1",
    "1x4",
    "4x2",
    "2x4",
    "3x1",
    "1x3",
    "3x2",
    "grey",
    "1x1,2x1,2x1",
    "1x1,1x2,1x2",
    "1x1,2x2,2x2",
    "2x2,2x1,2x1",
    "2x2,1x2,1x2",
    "2x1,1x1,2x1",
    "2x2,1x1,2x2",
];

/// Scripts of scans: one for all components, one each, brightness first, another first, and progressive with another first.
const SCANS: [&str; 5] = [
    "",
    "0;1;2;",
    "0;1 2;",
    "1;0;2;",
    "1: 0-0, 0, 0; 0: 0-0, 0, 1; 2: 0-0, 0, 0; 0: 0-0, 1, 0; 0: 1-63, 0, 1; 0: 1-63, 1, 0; 2: 1-63, 0, 0; 1: 1-63, 0, 0;",
];

#[test]
fn every_layout_gives_the_pixels_of_djpeg() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let mut layouts = Vec::new();
    for (i, script) in SCANS.iter().enumerate() {
        fs::write(place(&format!("{i}.scans")), script).expect("a script");
    }
    for (width, height) in SIZES {
        fs::write(place(&format!("{width}x{height}.ppm")), picture(width, height)).expect("a picture");
        for sampling in SAMPLINGS {
            for scans in 0..SCANS.len() {
                for restarts in ["", "1", "3B"] {
                    let scripted = scans > 0;
                    if scripted && sampling == "grey" {
                        continue;
                    }
                    layouts.push((width, height, sampling, scans, restarts, false));
                    // A script of its own says itself whether a file is progressive.
                    if !scripted && restarts != "1" {
                        layouts.push((width, height, sampling, scans, restarts, true));
                    }
                }
            }
        }
    }
    let files: usize = layouts
        .into_par_iter()
        .enumerate()
        .map(|(i, layout @ (width, height, sampling, scans, restarts, progressive))| {
            let (jpeg, pnm) = (place(&format!("{i}.jpg")), place(&format!("{i}.pnm")));
            let script = place(&format!("{scans}.scans"));
            let mut arguments = vec!["-quality", "95"];
            match sampling {
                "grey" => arguments.push("-grayscale"),
                _ => arguments.extend(["-sample", sampling]),
            }
            if scans > 0 {
                arguments.extend(["-scans", script.to_str().expect("a name")]);
            }
            if !restarts.is_empty() {
                arguments.extend(["-restart", restarts]);
            }
            if progressive {
                arguments.push("-progressive");
            }
            // Some interleave more blocks than the standard allows: cjpeg knows.
            if run("cjpeg", &arguments, &place(&format!("{width}x{height}.ppm")), &jpeg).is_none() {
                return 0;
            }
            run("djpeg", &["-pnm"], &jpeg, &pnm).unwrap_or_else(|| panic!("{layout:?}: djpeg"));
            let decoded = decode(&fs::read(&jpeg).expect("a file"), &Limits::default());
            let decoded = decoded.unwrap_or_else(|e| panic!("{layout:?}: {e}"));
            assert_eq!(decoded.notes, [""; 0], "{layout:?}");
            let (most, mean) = differences(&decoded.picture, &reference(&pnm));
            // Both are libjpeg-turbo, yet of other releases and with other instructions.
            assert!(most <= 3 && mean < 0.5, "{layout:?}: off by up to {most}, by {mean} in the mean");
            1
        })
        .sum();
    assert!(files >= 1432, "only {files} files");
}

#[test]
fn arithmetic_codes_give_the_pixels_of_huffman_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    fs::write(place("in.ppm"), picture(88, 61)).expect("a picture");
    for more in [&[][..], &["-progressive"], &["-restart", "1"], &["-sample", "1x1,2x2,2x2"], &["-grayscale"]] {
        let read = |name: &str, coding: &[&str]| {
            run("cjpeg", &[coding, more].concat(), &place("in.ppm"), &place(name)).expect("cjpeg");
            decode(&fs::read(place(name)).expect("a file"), &Limits::default())
                .unwrap_or_else(|e| panic!("{more:?}: {e}"))
        };
        let (huffman, arithmetic) = (read("huffman.jpg", &[]), read("arithmetic.jpg", &["-arithmetic"]));
        assert_eq!(huffman.picture.samples, arithmetic.picture.samples, "{more:?}");
    }
}

#[test]
fn the_quality_that_cjpeg_was_told_is_read_from_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ppm, jpeg) = (folder.path().join("a.ppm"), folder.path().join("a.jpg"));
    fs::write(&ppm, picture(16, 16)).expect("a picture");
    for quality in [5_u8, 10, 30, 50, 75, 85, 92, 95, 98] {
        run("cjpeg", &["-quality", &quality.to_string()], &ppm, &jpeg).expect("cjpeg");
        let read = decode(&fs::read(&jpeg).expect("a file"), &Limits::default()).expect("a JPEG").picture;
        let told = read.metadata.jpeg_quality.expect("it has tables");
        // Values are whole numbers from 1 to 255, so sums are not exact.
        assert!(told.abs_diff(quality) <= if quality < 30 { 3 } else { 1 }, "{quality}: {told}");
    }
}
