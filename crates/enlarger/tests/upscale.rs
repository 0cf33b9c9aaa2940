//! What `enlarger upscale` promises, seen from outside: files, words, exit codes.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use common::{folder, text};

/// The fast network keeps these tests short; what they prove does not depend on the network.
const FAST: [&str; 2] = ["--model", "animevideo-v3"];

fn enlarger(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_enlarger")).args(args).output().expect("the binary runs")
}

fn upscale(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    command.current_dir(folder).arg("upscale").args(FAST).args(args);
    command.output().expect("the binary runs")
}

/// Width and height as ffprobe-like tools see them: read from the bytes by the image crate's header parser.
fn size(path: &Path) -> (u32, u32) {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let header = enlarger_image::probe(&bytes, &enlarger_image::Limits::default()).expect("a readable picture");
    (header.width, header.height)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_result_lies_beside_its_source_four_times_as_large() {
    let dir = folder();
    let out = upscale(dir.path(), &["photo.png"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(size(&dir.path().join("photo_4x.png")), (384, 288));
    assert!(out.stdout.is_empty(), "standard output is for data");
}

#[test]
fn every_way_to_say_a_size_gives_that_size() {
    let dir = folder();
    for (args, expected) in [
        (vec!["-s", "2x"], (192, 144)),
        (vec!["-s", "3"], (288, 216)),
        (vec!["-s", "1.5x"], (144, 108)),
        (vec!["-s", "8x"], (768, 576)),
        (vec!["--width", "250"], (250, 188)),
        (vec!["--height", "300"], (400, 300)),
        (vec!["-s", "16x", "--max-pixels", "100K"], (365, 274)),
    ] {
        let out = upscale(dir.path(), &[&args[..], &["photo.png", "-o", "out.png", "--overwrite"]].concat());
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        let (w, h) = size(&dir.path().join("out.png"));
        assert!(w.abs_diff(expected.0) <= 1 && h.abs_diff(expected.1) <= 1, "{args:?}: {w}x{h}");
    }
}

#[test]
fn the_name_of_the_output_chooses_its_format() {
    let dir = folder();
    for (name, magic) in [
        ("a.png", &b"\x89PNG"[..]),
        ("a.jpg", &b"\xff\xd8\xff"[..]),
        ("a.webp", &b"RIFF"[..]),
        ("a.tif", &b"II*\0"[..]),
    ] {
        let out = upscale(dir.path(), &["photo.jpg", "-s", "2", "-o", name]);
        assert!(out.status.success(), "{name}: {}", text(&out.stderr));
        assert!(fs::read(dir.path().join(name)).expect("written").starts_with(magic), "{name}");
    }
}

#[test]
fn a_junk_file_is_reported_and_the_rest_of_the_batch_goes_on() {
    let dir = folder();
    fs::write(dir.path().join("broken.png"), b"\x89PNG\r\n\x1a\nthis is not a picture").expect("written");
    fs::write(dir.path().join("empty.jpg"), b"").expect("written");
    let out = upscale(dir.path(), &[".", "-o", "out/", "-s", "2x"]);
    let told = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert_eq!(files(&dir.path().join("out")), ["photo.jpg_2x.png", "photo.png_2x.png"], "{told}");
    for name in ["broken.png", "empty.jpg"] {
        let line = told.lines().find(|l| l.starts_with("error:") && l.contains(name));
        assert!(line.is_some(), "{name} is named: {told}");
    }
    assert!(told.matches("hint:").count() >= 2, "each error has a hint: {told}");
    assert!(!told.contains("panicked"), "{told}");
    assert!(told.contains("2 enlarged, 2 failed"), "{told}");
}

#[test]
fn existing_results_are_never_replaced_unasked() {
    let dir = folder();
    let kept = dir.path().join("photo_2x.png");
    fs::write(&kept, b"precious").expect("written");
    let refused = upscale(dir.path(), &["photo.png", "-s", "2x"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--overwrite"), "{}", text(&refused.stderr));
    let skipped = upscale(dir.path(), &["photo.png", "-s", "2x", "--skip-existing"]);
    assert!(skipped.status.success());
    assert_eq!(fs::read(&kept).expect("there"), b"precious");
    let replaced = upscale(dir.path(), &["photo.png", "-s", "2x", "--overwrite"]);
    assert!(replaced.status.success());
    assert_eq!(size(&kept), (192, 144));
    let itself = upscale(dir.path(), &["photo.png", "-s", "2x", "--overwrite", "-o", "photo.png"]);
    assert_eq!(itself.status.code(), Some(1), "a source is never its own result");
    assert_eq!(size(&dir.path().join("photo.png")), (96, 72));
}

#[test]
fn pictures_go_through_a_pipe() {
    let dir = folder();
    let bytes = fs::read(dir.path().join("photo.png")).expect("there");
    let out = assert_cmd::Command::new(env!("CARGO_BIN_EXE_enlarger"))
        .args(["upscale", "-", "-s", "2x"])
        .args(FAST)
        .write_stdin(bytes)
        .output()
        .expect("the binary runs");
    assert!(out.status.success(), "{}", text(&out.stderr));
    let header = enlarger_image::probe(&out.stdout, &enlarger_image::Limits::default()).expect("a picture");
    assert_eq!((header.width, header.height), (192, 144));
}

#[test]
fn json_has_one_object_per_picture_with_its_plan_or_its_error() {
    let dir = folder();
    fs::write(dir.path().join("junk.png"), b"junk").expect("written");
    let out = upscale(dir.path(), &["photo.png", "junk.png", "-s", "2x", "--json", "-o", "out/"]);
    let lines: Vec<serde_json::Value> =
        text(&out.stdout).lines().map(|l| serde_json::from_str(l).expect("one JSON object per line")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["status"], "done");
    let share = lines[0]["result"]["invention"]["share"].as_f64();
    assert!(share.is_some_and(|share| 0.0 < share && share < 0.1), "what was invented: {share:?}");
    assert_eq!(lines[0]["result"]["width"], 192);
    assert_eq!(lines[0]["result"]["plan"]["steps"][0]["model"], "animevideo-v3");
    assert_eq!(lines[1]["status"], "failed");
    assert!(lines[1]["error"]["hint"].is_string());
}

#[test]
fn the_result_says_who_made_it_and_by_what_plan() {
    let dir = folder();
    assert!(upscale(dir.path(), &["photo.png", "-s", "2x"]).status.success());
    let bytes = fs::read(dir.path().join("photo_2x.png")).expect("written");
    let note = text(&bytes);
    assert!(note.contains("upscaled 2x by enlarger") && note.contains("animevideo-v3"), "the note is in the file");
}

#[test]
fn alpha_is_the_same_whether_the_model_makes_2x_or_4x() {
    let dir = folder();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let twice = crates.join("enlarger-nn/tests/reference/compact_x2_half.pth");
    let cut_out = crates.join("enlarger-image/tests/golden/png_rgba8.png");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
        let made = command.current_dir(dir.path()).env("ENLARGER_DATA_DIR", dir.path()).args(args);
        let made = made.output().expect("the binary runs");
        assert!(made.status.success(), "{args:?}: {}", text(&made.stderr));
    };
    let [twice, cut_out] = [&twice, &cut_out].map(|path| path.to_str().expect("a plain path"));
    run(&["models", "add", twice, "--name", "twice"]);
    let alpha = |model: &str| {
        let name = format!("{model}.png");
        run(&["upscale", cut_out, "-m", model, "-s", "2x", "-o", &name]);
        let bytes = fs::read(dir.path().join(&name)).expect("it was written");
        let picture = enlarger_image::decode(&bytes, &enlarger_image::Limits::default()).expect("a picture").picture;
        let enlarger_image::Samples::U8(samples) = picture.samples else { panic!("8 bits went in") };
        samples.into_iter().skip(3).step_by(4).collect::<Vec<u8>>()
    };
    let expected = alpha("animevideo-v3");
    assert!(expected.iter().any(|a| *a > 0) && expected.iter().any(|a| *a < 255), "{expected:?}");
    assert_eq!(alpha("twice"), expected);
}

#[test]
fn wrong_words_are_refused_with_code_2_before_anything_runs() {
    for args in
        [&["upscale"][..], &["upscale", "x.png", "-s", "17x"], &["upscale", "x.png", "--quality", "0"], &["nonsense"]]
    {
        assert_eq!(enlarger(args).status.code(), Some(2), "{args:?}");
    }
    let dir = folder();
    let unknown = upscale(dir.path(), &["photo.png", "-o", "out.xyz"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("hint:"));
    assert_eq!(files(dir.path()), ["photo.jpg", "photo.png"]);
}

#[test]
fn explain_tells_each_step_and_makes_nothing() {
    let dir = folder();
    let told = upscale(dir.path(), &["photo.png", "--explain", "-s", "16x", "--creativity", "-5", "--hdr", "3"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    let words = text(&told.stdout);
    for part in [
        "96x72",
        "animevideo-v3: 384x288 to 1536x1152",
        "filter lock: radius 8 (colors are kept)",
        "(creativity -5)",
        "(hdr 3)",
        "result    1536x1152",
    ] {
        assert!(words.contains(part), "{part} is missing:\n{words}");
    }
    // What the decoder has to say, and what becomes of alpha.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../enlarger-image/tests/golden");
    for (name, part) in
        [("gif_animated.gif", "note      the image is animated"), ("png_rgba8.png", "alpha     model animevideo-v3")]
    {
        let told = upscale(&golden, &[name, "--explain"]);
        let words = text(&told.stdout);
        assert!(words.contains(part), "{name}: {part} is missing:\n{words}");
        let json = upscale(&golden, &[name, "--explain", "--json"]);
        let line: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one object");
        assert_eq!((&line["input"], &line["status"]), (&name.into(), &"explained".into()), "{line}");
    }
    assert_eq!(files(dir.path()), ["photo.jpg", "photo.png"]);
}

#[test]
fn knobs_change_the_result_and_the_two_families_exclude_each_other() {
    let dir = folder();
    for (name, flags) in
        [("plain.png", vec![]), ("hdr.png", vec!["--hdr", "8"]), ("sharp.png", vec!["--sharpen", "60"])]
    {
        let made = upscale(dir.path(), &[&["photo.png", "-s", "2x", "-o", name], &flags[..]].concat());
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    }
    let bytes = |name: &str| fs::read(dir.path().join(name)).expect("it was made");
    assert_ne!(bytes("plain.png"), bytes("hdr.png"));
    assert_ne!(bytes("plain.png"), bytes("sharp.png"));
    for other in [["--sharpen", "60"], ["--flavor", "photo"]] {
        let both = upscale(dir.path(), &[&["photo.png", "--engine", "sharpy"], &other[..]].concat());
        assert_eq!(both.status.code(), Some(2));
        let told = text(&both.stderr);
        assert!(
            ["--engine", other[0], "cannot be combined", "hint: "].iter().all(|part| told.contains(part)),
            "{told}"
        );
    }
    let short = upscale(dir.path(), &["photo.png", "--explain", "--engine", "magnific_sharpy"]);
    assert_eq!(short.status.code(), Some(0), "the API's own spelling: {}", text(&short.stderr));
    let unknown = upscale(dir.path(), &["photo.png", "--engine", "fancy"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("sparkle"), "{}", text(&unknown.stderr));
}

#[test]
fn an_unknown_model_names_the_ones_there_are() {
    let dir = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    let out =
        command.current_dir(dir.path()).args(["upscale", "photo.png", "--model", "x4pluss"]).output().expect("runs");
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("did you mean x4plus? available: "), "{}", text(&out.stderr));
}

#[test]
fn a_pattern_names_results() {
    let dir = folder();
    let made = upscale(
        dir.path(),
        &["photo.png", "photo.jpg", "-s", "2x", "--name", "big {stem} {width}.{ext}", "-f", "jpeg"],
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(files(dir.path()), ["big photo.jpg 192.jpg", "big photo.png 192.jpg", "photo.jpg", "photo.png"]);
    for args in [&["photo.png", "--name", "x.{ext}"][..], &["photo.png", "-o", "a.png", "--name", "{stem}.{ext}"]] {
        assert_eq!(upscale(dir.path(), args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_resolution_is_written_where_other_programs_look_for_it() {
    let dir = folder();
    for name in ["a.png", "a.jpg", "a.tif"] {
        let made = upscale(dir.path(), &["photo.jpg", "-s", "2x", "--dpi", "240", "-o", name]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let bytes = fs::read(dir.path().join(name)).expect("it was written");
        let limits = enlarger_image::Limits::default();
        let (across, down) =
            enlarger_image::decode(&bytes, &limits).expect("a picture").picture.metadata.dpi.expect("it has one");
        // PNG counts in whole pixels per meter.
        assert!((across - 240.0).abs() < 0.02 && (down - 240.0).abs() < 0.02, "{name}: {across}, {down}");
    }
    let noted = upscale(dir.path(), &["photo.jpg", "-s", "2x", "--dpi", "240", "-o", "a.webp"]);
    assert!(text(&noted.stderr).contains("stores a resolution only in EXIF"), "{}", text(&noted.stderr));
    assert_eq!(upscale(dir.path(), &["photo.jpg", "--dpi", "0"]).status.code(), Some(2));
}

#[test]
fn what_cannot_fit_in_memory_is_refused_before_it_is_decoded() {
    let dir = folder();
    // A header that promises 30000x30000 RGB, valid up to the end of IHDR: 16x of it would need terabytes.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    let mut ihdr = Vec::new();
    ihdr.extend(30000u32.to_be_bytes());
    ihdr.extend(30000u32.to_be_bytes());
    ihdr.extend([8, 2, 0, 0, 0]);
    png.extend(&ihdr);
    png.extend(crc32(b"IHDR", &ihdr).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    fs::write(dir.path().join("bomb.png"), png).expect("written");
    for flags in [&["bomb.png", "-s", "16x"][..], &["bomb.png", "-s", "16x", "--explain"]] {
        let out = upscale(dir.path(), flags);
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{told}");
        assert!(told.contains("hint:") && !told.contains("panicked"), "{told}");
    }
    assert!(!dir.path().join("bomb_16x.png").exists());
}

/// CRC-32 as PNG defines it (ISO 3309).
fn crc32(kind: &[u8], data: &[u8]) -> u32 {
    !kind.iter().chain(data).fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}
