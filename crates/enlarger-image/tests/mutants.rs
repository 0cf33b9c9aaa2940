//! 3,000 mutated files neither panic nor abort nor take memory that their limits do not allow.

use std::{fs, path::Path, process::Command};

use enlarger_image::{Limits, decode, probe};

/// More than idle, in kilobytes, with pictures of up to a million pixels.
const MOST_MEMORY: u64 = 64 << 10;

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

#[test]
fn three_thousand_mutated_jpeg_files_do_no_harm() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut seeds: Vec<Vec<u8>> = fs::read_dir(golden)
        .expect("golden files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "jpg"))
        .map(|path| fs::read(path).expect("a file"))
        .collect();
    seeds.sort();
    for arguments in [
        &["-progressive"][..],
        &["-arithmetic"],
        &["-arithmetic", "-progressive"],
        &["-restart", "1"],
        &["-sample", "1x1,2x2,2x2"],
        &["-sample", "4x2", "-progressive"],
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let (input, output) = (folder.path().join("in.ppm"), folder.path().join("out.jpg"));
        let pixels = (0..40 * 30 * 3).map(|i: u32| (i * 7 + i / 40 * 13) as u8);
        fs::write(&input, [&b"P6\n40 30\n255\n"[..], &pixels.collect::<Vec<_>>()].concat()).expect("a picture");
        let ran = Command::new("cjpeg").args(arguments).arg("-outfile").args([&output, &input]).status();
        assert!(ran.expect("cjpeg of libjpeg-turbo-progs").success());
        seeds.push(fs::read(&output).expect("a file"));
    }
    let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
    for seed in &seeds {
        decode(seed, &limits).expect("a whole file");
    }
    let idle = peak();
    let mut dice = Dice(20);
    let mut read = 0;
    for i in 0..3000 {
        let bytes = dice.mutant(&seeds[i % seeds.len()]);
        let _ = probe(&bytes, &limits);
        match decode(&bytes, &limits) {
            Ok(_) => read += 1,
            Err(error) => assert!(error.hint().is_some() && !error.to_string().contains("gave up"), "{i}: {error}"),
        }
    }
    assert!((300..2700).contains(&read), "{read} of 3000 were read: the mutations say little");
    assert!(peak() <= idle + MOST_MEMORY, "{} KB over idle", peak() - idle);
}
