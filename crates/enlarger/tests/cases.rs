//! Files such as other programs write and transfers leave behind give the pixels they hold, or a sentence.
//!
//! `tests/cases` at the top of the project has the inputs, and `make.py` there says what lies beside them. Another folder of
//! the same layout is taken from the environment variable `ENLARGER_CASES`.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use common::text;
use enlarger_image::{Limits, Picture, Samples};

const EXPECTED: &str = ".expected.png";
const BESIDE: [&str; 5] = [EXPECTED, ".refused.txt", ".notes.txt", ".py", ".md"];

/// Decoders of JPEG round differently: this much of 255, in the mean over all samples.
const JPEG_MEAN: f64 = 3.0;

#[test]
fn odd_files_give_the_pixels_they_hold_or_a_sentence() {
    let folder = std::env::var_os("ENLARGER_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases"), PathBuf::from);
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("the folder of cases is there")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().into_string().expect("a name in UTF-8"))
        .collect();
    names.sort();
    let expected: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(EXPECTED)).collect();
    let cases: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !BESIDE.iter().any(|b| name.ends_with(b))).collect();
    assert!(!cases.is_empty(), "there are no cases in {}", folder.display());

    let results = tempfile::tempdir().expect("a temporary folder");
    let pictures: BTreeMap<&str, Picture> = in_parallel(&expected, |name| {
        let (out, said) =
            upscale(&folder.join(format!("{name}{EXPECTED}")), &results.path().join(format!("{name}.png")));
        (name, out.unwrap_or_else(|| panic!("{name}{EXPECTED}: {said}")))
    })
    .into_iter()
    .collect();
    let faults: Vec<String> = in_parallel(&cases, |case| {
        let (result, said) = upscale(&folder.join(case), &results.path().join(format!("{case}.out.png")));
        judge(&folder, case, result, &said, &pictures)
            .err()
            .map(|fault| format!("{case}: {fault}\n    {}", said.trim()))
    })
    .into_iter()
    .flatten()
    .collect();
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

fn judge(
    folder: &Path,
    case: &str,
    result: Option<Picture>,
    said: &str,
    pictures: &BTreeMap<&str, Picture>,
) -> Result<(), String> {
    let beside = |what: &str| fs::read_to_string(folder.join(format!("{case}{what}"))).ok();
    if let Some(words) = beside(".refused.txt") {
        return match result {
            None if said.contains(words.trim()) => Ok(()),
            None => Err(format!("it was not refused with {:?}", words.trim())),
            Some(_) => Err("it was not refused".into()),
        };
    }
    let result = result.ok_or("it was refused")?;
    for note in beside(".notes.txt").iter().flat_map(|notes| notes.lines()) {
        if !said.contains(note) {
            return Err(format!("nothing was said of {note:?}"));
        }
    }
    let Some((_, expected)) =
        pictures.iter().filter(|(name, _)| case.starts_with(*name)).max_by_key(|(name, _)| name.len())
    else {
        return Ok(());
    };
    if (result.width, result.height) != (expected.width, expected.height) {
        return Err(format!(
            "{} x {} instead of {} x {}",
            result.width, result.height, expected.width, expected.height
        ));
    }
    let (mean, most) = difference(&result, expected);
    let lossy = case.ends_with(".jpg");
    let same = match case {
        _ if lossy => mean < JPEG_MEAN,
        // Their 16 bits were rounded to 8 in what is expected, and a network makes more of half a level.
        _ if case.starts_with("linear") => mean < 0.5 && most <= 6.0,
        _ => most == 0.0,
    };
    if same { Ok(()) } else { Err(format!("the pixels differ by {mean:.2} in the mean and {most:.0} at most")) }
}

/// The result, if there is one, and what was said.
fn upscale(input: &Path, output: &Path) -> (Option<Picture>, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_enlarger"))
        .arg("upscale")
        .arg(input)
        .args(["-s", "2x", "--draft", "-o"])
        .arg(output)
        .output()
        .expect("the binary runs");
    let said = text(&run.stderr);
    let code = run.status.code();
    assert!(matches!(code, Some(0 | 1)), "{}: exit {code:?}: {said}", input.display());
    let result = (code == Some(0)).then(|| {
        let bytes = fs::read(output).expect("there is a result");
        enlarger_image::decode(&bytes, &Limits::default()).expect("the result is a picture").picture
    });
    (result, said)
}

/// Of samples as RGBA, 0..=255: the mean and the largest.
fn difference(a: &Picture, b: &Picture) -> (f64, f64) {
    let (a, b) = (rgba(a), rgba(b));
    let differences = || a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    (differences().sum::<f64>() / a.len() as f64, differences().fold(0.0, f64::max))
}

/// Opaque grey may be stored as anything.
fn rgba(picture: &Picture) -> Vec<f64> {
    let values: Vec<f64> = match &picture.samples {
        Samples::U8(samples) => samples.iter().map(|&v| v.into()).collect(),
        Samples::U16(samples) => samples.iter().map(|&v| f64::from(v) / 257.0).collect(),
    };
    let of_pixel = |pixel: &[f64]| match *pixel {
        [v] => [v, v, v, 255.0],
        [v, a] => [v, v, v, a],
        [r, g, b] => [r, g, b, 255.0],
        [r, g, b, a] => [r, g, b, a],
        _ => unreachable!("a pixel has one to four samples"),
    };
    values.chunks_exact(picture.channels.count()).flat_map(of_pixel).collect()
}

/// Results in no particular order.
fn in_parallel<'a, T: Send>(names: &[&'a str], work: impl Fn(&'a str) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(names.len()) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = work(name);
                    done.lock().expect("no other thread panicked").push(result);
                }
            });
        }
    });
    done.into_inner().expect("no thread panicked")
}
