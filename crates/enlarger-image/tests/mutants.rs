//! 3,000 mutated files of each format neither panic nor abort nor take memory that their limits do not allow.

use std::{fs, path::Path, process::Command, sync::Mutex};

use enlarger_error::Explained;
use enlarger_image::{Limits, decode, probe};

/// More than idle, in kilobytes.
const MOST_MEMORY: u64 = 64 << 10;

/// Those of a server, but for pictures of up to a million pixels.
fn limits() -> Limits {
    Limits { max_pixels: 1_000_000, ..Limits::default() }
}

/// Knuth's linear congruential generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count.max(1)
    }

    /// Edits some bytes, more of them where headers are; cuts, doubles or moves a part.
    fn mutant(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        for _ in 0..=self.below(6) {
            let region = [bytes.len(), 700][self.below(2)].min(bytes.len());
            let at = self.below(region);
            bytes[at] = match self.below(4) {
                0 => 0,
                1 => 0xFF,
                2 => bytes[at] ^ (1 << self.below(8)),
                _ => self.below(256) as u8,
            };
        }
        let (from, length) = (self.below(bytes.len()), self.below(400));
        let part = bytes[from..(from + length).min(bytes.len())].to_vec();
        match self.below(8) {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(from..from + part.len())),
            2 => {
                let to = self.below(bytes.len());
                bytes.splice(to..to, part);
            }
            _ => {}
        }
        bytes
    }
}

/// Whole files of a format that other programs wrote.
fn seeds(extension: &str) -> Vec<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [here.join("tests/golden"), here.join("../../tests/cases")]
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()));
    let files = files.filter(|path| path.extension().is_some_and(|e| e == extension));
    let mut seeds: Vec<_> = files.map(|path| fs::read(path).expect("a file")).collect();
    seeds.retain(|bytes| decode(bytes, &limits()).is_ok());
    seeds.sort();
    assert!(!seeds.is_empty());
    seeds
}

/// What a program makes of a picture.
fn made(program: &str, arguments: &[&str], picture: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, picture).expect("a picture");
    let mut command = Command::new(program);
    command.args(arguments);
    match program {
        "cjpeg" => command.arg("-outfile").args([&output, &input]),
        _ => command.args([&input, &output]),
    };
    let ran = command.status().unwrap_or_else(|e| panic!("{program} (see `make test-setup`): {e}"));
    assert!(ran.success(), "{program} {arguments:?}");
    fs::read(&output).expect("a file")
}

/// This process's greatest memory so far, in kilobytes.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[cfg(not(target_os = "linux"))]
fn peak() -> u64 {
    0
}

/// Reads mutants of the seeds, `repaired` in what keeps a decoder from looking at the rest; at least `least` are to be readable.
fn three_thousand(seeds: &[Vec<u8>], repaired: fn(&mut [u8]), least: usize) {
    // Memory is the process's: one format at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    for seed in seeds {
        decode(seed, &limits()).expect("a whole file");
    }
    let idle = peak();
    let mut dice = Dice(20);
    let mut read = 0;
    for i in 0..3000 {
        let mut bytes = dice.mutant(&seeds[i % seeds.len()]);
        repaired(&mut bytes);
        let _ = probe(&bytes, &limits());
        match decode(&bytes, &limits()) {
            Ok(_) => read += 1,
            Err(error) => {
                let said = error.to_string();
                let of_code = ["gave up", "{", "[", "::", "Some(", "`"].iter().any(|sign| said.contains(sign));
                assert!(error.hint().is_some() && !of_code && !has_code_name(&said), "{i}: {error}");
            }
        }
    }
    assert!((least..2700).contains(&read), "{read} of 3000 were read: the mutations say little");
    assert!(peak() <= idle + MOST_MEMORY, "{} KB over idle", peak() - idle);
}

/// Whether a word is the name of something in Rust, such as `BadFilter`. `WebP` and the names of chunks are shorter, `YCbCr` is the field's.
fn has_code_name(text: &str) -> bool {
    let word = |word: &str| {
        word.len() > 4
            && word != "YCbCr"
            && word.as_bytes().windows(2).any(|w| w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase())
    };
    text.split(|c: char| !c.is_alphanumeric()).any(word)
}

#[test]
fn mutated_jpeg_files_do_no_harm() {
    let mut seeds = seeds("jpg");
    let pixels = (0..40 * 30 * 3).map(|i: u32| (i * 7 + i / 40 * 13) as u8);
    let ppm = [&b"P6\n40 30\n255\n"[..], &pixels.collect::<Vec<_>>()].concat();
    for arguments in [
        &["-progressive"][..],
        &["-arithmetic"],
        &["-arithmetic", "-progressive"],
        &["-restart", "1"],
        &["-sample", "1x1,2x2,2x2"],
        &["-sample", "4x2", "-progressive"],
    ] {
        seeds.push(made("cjpeg", arguments, &ppm));
    }
    three_thousand(&seeds, |_| {}, 300);
}

#[test]
fn mutated_png_files_do_no_harm() {
    three_thousand(&seeds("png"), |_| {}, 30);
}

/// Checksums keep most mutants from the decoder.
#[test]
fn mutated_png_files_with_right_checksums_do_no_harm() {
    three_thousand(&seeds("png"), mend_checksums, 200);
}

/// Gives each chunk of a PNG the checksum of what is in it.
fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let end = at + 8 + length;
        if end + 4 > bytes.len() {
            break;
        }
        let mut sum = flate2::Crc::new();
        sum.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.sum().to_be_bytes());
        at = end + 4;
    }
}

#[test]
fn mutated_tiff_files_do_no_harm() {
    let mut seeds = seeds("tif");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiff_rgb8_raw.tif");
    let plain = fs::read(golden).expect("a golden file");
    for arguments in [
        &["-c", "jpeg"][..],
        &["-c", "jpeg", "-t", "-w", "16", "-l", "16"],
        &["-c", "jpeg:r", "-p", "separate"],
        &["-c", "lzw:2", "-t", "-w", "16", "-l", "16", "-8"],
        &["-c", "zip:2", "-p", "separate", "-r", "3", "-B"],
        &["-c", "packbits", "-8", "-B"],
    ] {
        seeds.push(made("tiffcp", arguments, &plain));
    }
    three_thousand(&seeds, |_| {}, 300);
}

#[test]
fn mutated_webp_files_do_no_harm() {
    three_thousand(&seeds("webp"), |_| {}, 300);
}

#[test]
fn mutated_gif_files_do_no_harm() {
    three_thousand(&seeds("gif"), |_| {}, 300);
}

#[test]
fn mutated_bmp_files_do_no_harm() {
    three_thousand(&seeds("bmp"), |_| {}, 300);
}
