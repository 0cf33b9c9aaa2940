//! What the generative engine promises, seen from outside, on tiny random checkpoints: how results of real ones look is not shown here.

mod common;

#[path = "common/checkpoints.rs"]
mod checkpoints;

#[path = "common/comfyui.rs"]
mod comfyui;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use checkpoints::Array;
use comfyui::{Fake, Mood, titled};
use common::{folder_of, text};
use enlarger_image::{Channels, EncodeOptions, Limits, Metadata, Picture, Samples};
use tempfile::TempDir;

/// `checkpoints/tiny`, `controlnet/tile`, `loras/grain` and what does not fit, as ComfyUI keeps them.
static MODELS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    checkpoints::write(&at("checkpoints/tiny.safetensors"), &checkpoints::checkpoint());
    checkpoints::write(&at("controlnet/tile.safetensors"), &checkpoints::control());
    checkpoints::write(&at("controlnet/xl.safetensors"), &checkpoints::control_of_sdxl());
    checkpoints::write(&at("loras/grain.safetensors"), &checkpoints::lora());
    folder
});

fn upscale(folder: &Path, args: &[&str]) -> Output {
    command(folder, MODELS.path(), args).output().expect("the binary runs")
}

fn command(folder: &Path, models: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    command.current_dir(folder).env("ENLARGER_MODEL_DIRS", models).env("ENLARGER_DATA_DIR", folder.join("data"));
    // The small network keeps this short; what is shown does not depend on it.
    command.args(["upscale", "photo.png", "--model", "animevideo-v3", "--overwrite", "-o", "result.png"]);
    if !args.contains(&"--width") {
        command.args(["-s", "2x"]);
    }
    command.args(args);
    command
}

fn pixels(path: &Path) -> Vec<u8> {
    let picture =
        enlarger_image::decode(&fs::read(path).expect("a result"), &Limits::default()).expect("a picture").picture;
    match picture.samples {
        Samples::U8(samples) => samples,
        Samples::U16(_) => panic!("8 bits went in"),
    }
}

/// The result of a run.
fn made(folder: &Path, args: &[&str]) -> Vec<u8> {
    let out = upscale(folder, args);
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    pixels(&folder.join("result.png"))
}

/// What a run that fails says.
fn refused(folder: &Path, args: &[&str]) -> String {
    refused_with(folder, args, 1)
}

fn refused_with(folder: &Path, args: &[&str], code: i32) -> String {
    let out = upscale(folder, args);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {}", text(&out.stderr));
    assert!(!folder.join("result.png").exists());
    let said = text(&out.stderr);
    assert!(said.contains("hint: ") && !said.contains("internal error"), "{args:?}: {said}");
    said
}

fn explained(folder: &Path, args: &[&str]) -> String {
    let out = upscale(folder, &[args, &["--explain"]].concat());
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn a_result_repeats_and_changes_with_the_prompt_the_seed_and_each_knob() {
    let dir = folder_of(32, 24);
    let base = ["--generative", "--prompt", "a stone wall", "--seed", "1"];
    let with = |more: &[&str]| made(dir.path(), &[&base[..], more].concat());
    let first = with(&[]);
    assert_eq!(first, with(&[]), "the same request gives the same pixels");
    for more in [
        &["--prompt", "a (wooden:1.4) door"][..],
        &["--seed", "2"],
        &["--creativity", "5"],
        &["--resemblance", "5"],
        &["--hdr", "5"],
        &["--fractality", "5"],
        &["--negative", "moss"],
        &["--sampler", "euler_a"],
        &["--steps", "9"],
        &["--lora", "grain:0.5"],
        &["--control", "none"],
        &["--engine", "sharpy"],
    ] {
        // A flag is given once.
        let kept = base[1..].chunks(2).filter(|pair| pair[0] != more[0]).flatten();
        let args: Vec<&str> = base[..1].iter().chain(kept).chain(more).copied().collect();
        assert_ne!(first, made(dir.path(), &args), "{more:?}");
    }
    let plain = made(dir.path(), &["--prompt", "a stone wall", "--seed", "1"]);
    assert_ne!(plain, first, "without the engine it is another result");
    let bytes = text(&fs::read(dir.path().join("result.png")).unwrap());
    assert!(bytes.contains("animevideo-v3, plan"), "no checkpoint is named where there was none");
}

#[test]
fn the_plan_names_files_numbers_and_what_asks_for_them() {
    let dir = folder_of(48, 40);
    let said = explained(dir.path(), &["--generative", "--prompt", "a wall", "--seed", "7", "--lora", "grain:0.5"]);
    for part in [
        "generate by tiny (",
        "at 96x80, 7 steps of dpmpp_2m, guidance 6, tiles of 512 px, seed 7",
        "ControlNet tile (",
        "0.6 to 0.0596",
        "LoRA grain (",
        "prompt \"a wall, high quality, detailed\"",
        "creativity 0: denoise 0.35",
        "estimate  about",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let more =
        ["--generative", "--guidance", "3", "--clip-skip", "2", "--seamless", "--keep", "8,4,10,12", "--hdr", "5"];
    let said = explained(dir.path(), &more);
    assert!(said.contains("clip skip 2, seamless; keeps 20x24 at 16,8"), "{said}");
    assert!(said.contains("guidance 3 as asked for") && !said.contains("hdr 5: guidance"), "{said}");
    // 4x is two passes, the second with less denoising.
    let said = explained(dir.path(), &["--generative", "--width", "192"]);
    assert!(said.contains("at 96x80, 7 steps") && said.contains("at 192x160, 6 steps"), "{said}");
    let said = explained(dir.path(), &["--prompt", "a wall"]);
    assert!(said.contains("without the generative engine, the prompt has no effect"), "{said}");
    let json = upscale(dir.path(), &["--generative", "--seed", "7", "--json"]);
    let line: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let step = &line["result"]["plan"]["steps"][1];
    assert_eq!((step["do"].as_str(), step["checkpoint"]["name"].as_str()), (Some("diffuse"), Some("tiny")), "{line}");
    let file = text(&fs::read(dir.path().join("result.png")).unwrap());
    assert!(file.contains("animevideo-v3+tiny, plan"), "the result says by which checkpoint it was made");
}

#[test]
fn files_that_do_not_fit_are_refused_with_what_would() {
    let dir = folder_of(16, 16);
    let at = |name: &str| dir.path().join(name);
    let no_vae: Vec<Array> =
        checkpoints::checkpoint().into_iter().filter(|a| !a.0.starts_with("first_stage")).collect();
    checkpoints::write(&at("no-vae.safetensors"), &no_vae);
    let tiny = MODELS.path().join("checkpoints/tiny.safetensors");
    let whole = fs::read(&tiny).unwrap();
    fs::write(at("cut.safetensors"), &whole[..whole.len() - 1000]).unwrap();
    fs::write(at("noise.safetensors"), [0xff; 4096]).unwrap();
    fs::write(at("old.ckpt"), [b"PK\x03\x04", &[8; 4092][..]].concat()).unwrap();
    let lacking: Vec<Array> = checkpoints::checkpoint().into_iter().filter(|a| !a.0.ends_with(".out.2.bias")).collect();
    checkpoints::write(&at("lacking.safetensors"), &lacking);
    let mut wide = checkpoints::checkpoint();
    let first = wide.iter_mut().find(|a| a.0.ends_with("input_blocks.0.0.weight")).expect("it is there");
    (first.2, first.3) = (vec![32, 4, 5, 5], vec![0; 2 * 32 * 4 * 25]);
    checkpoints::write(&at("wide.safetensors"), &wide);
    for (args, said) in [
        (
            &["--generative", "--control", "xl"][..],
            "xl.safetensors is a ControlNet for SDXL, and tiny.safetensors is a checkpoint of SD 1.x",
        ),
        (&["--checkpoint", "no-vae.safetensors"], "no-vae.safetensors has no VAE"),
        (&["--checkpoint", "cut.safetensors"], "cut.safetensors: it is truncated"),
        (&["--checkpoint", "noise.safetensors"], "noise.safetensors: it is truncated, or not a safetensors file"),
        (&["--checkpoint", "old.ckpt"], "old.ckpt is a PyTorch file, which is not read"),
        (&["--checkpoint", "lacking.safetensors"], "lacking.safetensors lacks model.diffusion_model.out.2.bias"),
        (
            &["--checkpoint", "wide.safetensors"],
            "model.diffusion_model.input_blocks.0.0.weight of wide.safetensors has the shape [32, 4, 5, 5], not [32, 4, 3, 3]",
        ),
        (&["--checkpoint", "tile"], "tile.safetensors is a ControlNet for SD 1.x, not a checkpoint"),
        (&["--checkpoint", "none-such"], "there is no checkpoint named \"none-such\""),
        (&["--generative", "--lora", "none-such:0.5"], "there is no LoRA named \"none-such\""),
        (&["--generative", "--lora", "tile"], "tile.safetensors is a ControlNet for SD 1.x, not a LoRA"),
    ] {
        let told = refused_with(dir.path(), args, 2);
        assert!(told.contains(said), "{args:?}: {told}");
    }
    let many = "<lora:grain:0.1>".repeat(33);
    for (args, said) in [
        (
            &["--generative", "--prompt", "<lora:grain:nan>"][..],
            "the prompt gives the LoRA \"grain\" a strength of \"nan\"",
        ),
        (&["--generative", "--prompt", &many], "33 LoRAs are too many"),
        (&["--generative", "--lora", "grain:11"], "the strength 11 of grain is not possible"),
        (&["--generative", "--keep", "8,8,9,4"], "does not lie within the 16x16 pixels"),
    ] {
        let told = refused(dir.path(), args);
        assert!(told.contains(said), "{args:?}: {told}");
    }
    let prompt = "word ".repeat(10_000);
    assert!(refused(dir.path(), &["--generative", "--prompt", &prompt]).contains("50000 bytes"));
    let lora = upscale(dir.path(), &["--lora", "grain:abc"]);
    assert_eq!(lora.status.code(), Some(2), "{}", text(&lora.stderr));
    assert!(text(&lora.stderr).contains("\"abc\" is not a strength"), "{}", text(&lora.stderr));
    let guidance = upscale(dir.path(), &["--guidance", "0"]);
    assert_eq!(guidance.status.code(), Some(2), "{}", text(&guidance.stderr));
    let both = upscale(dir.path(), &["--generative", "--sharpen", "20"]);
    assert_eq!(both.status.code(), Some(2), "{}", text(&both.stderr));
}

#[test]
fn damaged_weights_end_in_a_sentence_that_names_tile_and_step() {
    let dir = folder_of(16, 16);
    let mut arrays = checkpoints::checkpoint();
    let damage = |arrays: &mut [Array], part: &str| {
        let array = arrays.iter_mut().find(|array| array.0.contains(part)).expect("it is there");
        array.3[..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    };
    damage(&mut arrays, "output_blocks.11.0.out_layers.3.weight");
    checkpoints::write(&dir.path().join("damaged.safetensors"), &arrays);
    let said = refused(dir.path(), &["--checkpoint", "damaged.safetensors"]);
    assert!(said.contains("tile 1 of 1 in step 1 of 7 gave values that are not numbers"), "{said}");
}

#[test]
fn sdxl_draws_and_a_union_control_net_is_found_by_its_header() {
    let (dir, models) = (folder_of(32, 24), tempfile::tempdir().expect("a folder"));
    let at = |name: &str| models.path().join(name);
    checkpoints::write(&at("checkpoints/xl.safetensors"), &checkpoints::checkpoint_of_sdxl());
    checkpoints::write(&at("controlnet/promax.safetensors"), &checkpoints::union_of_sdxl());
    let run = |more: &[&str]| {
        let args = [&["--generative", "--prompt", "a stone wall", "--seed", "1"], more].concat();
        let out = command(dir.path(), models.path(), &args).output().expect("the binary runs");
        assert!(out.status.success(), "{more:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    let said = run(&["--explain"]);
    for part in ["generate by xl (", "tiles of 1024 px", "; ControlNet promax (", "kept close to the source by promax"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let made = |more: &[&str]| {
        run(more);
        pixels(&dir.path().join("result.png"))
    };
    let first = made(&[]);
    assert_eq!(made(&[]), first, "the same request gives the same pixels");
    assert_ne!(made(&["--control", "none"]), first, "the ControlNet is followed");
}

#[test]
fn areas_that_are_to_stay_stay() {
    let dir = folder_of(64, 32);
    let base = ["--generative", "--prompt", "a wall", "--seed", "3", "--creativity", "10"];
    let drawn = made(dir.path(), &base);
    let kept = made(dir.path(), &[&base[..], &["--keep", "0,0,32,32"]].concat());
    let plain = made(dir.path(), &[&base[..], &["--keep", "0,0,64,32"]].concat());
    let off = |a: &[u8], b: &[u8], columns: std::ops::Range<usize>| -> f64 {
        let at = |p: &[u8], x: usize, y: usize| f64::from(p[(y * 128 + x) * 3]);
        let all = (0..64).flat_map(|y| columns.clone().map(move |x| (x, y)));
        let (sum, count) = all.fold((0.0, 0.0), |(s, n), (x, y)| (s + (at(a, x, y) - at(b, x, y)).abs(), n + 1.0));
        sum / count
    };
    assert!(off(&drawn, &plain, 0..64) > 1.0, "there is something to keep");
    assert_eq!(off(&kept, &plain, 0..64), 0.0, "the left half stays, up to its last column");
    assert!(off(&kept, &drawn, 96..128) < 0.3 * off(&kept, &plain, 96..128), "the right half is drawn");
}

#[test]
fn models_of_other_programs_are_found_and_listed_with_what_goes_together() {
    let scan = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
        let data = tempfile::tempdir().unwrap();
        command.env("ENLARGER_MODEL_DIRS", MODELS.path()).env("ENLARGER_DATA_DIR", data.path());
        command.args(args).output().expect("the binary runs")
    };
    let said = text(&scan(&["models", "scan"]).stdout);
    let lines: Vec<&str> = said.lines().map(|line| line.split(" (").next().unwrap()).collect();
    let expected = [
        "tiny  SD 1.x checkpoint",
        "  + tile  ControlNet for SD 1.x",
        "  + grain  LoRA",
        "without checkpoint: xl  ControlNet for SDXL",
    ];
    assert_eq!(lines, expected);
    let json: serde_json::Value = serde_json::from_slice(&scan(&["models", "scan", "--json"]).stdout).unwrap();
    let kinds: Vec<_> = json.as_array().unwrap().iter().map(|f| (f["name"].as_str(), f["kind"].as_str())).collect();
    let of = |name, kind| (Some(name), Some(kind));
    assert_eq!(kinds, [of("tiny", "checkpoint"), of("tile", "control"), of("xl", "control"), of("grain", "lora")]);
    assert!(text(&scan(&["models", "list"]).stdout).contains("tiny  SD 1.x checkpoint"));
    let none = scan(&["models", "scan", &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src").display().to_string()]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("no model among "), "{}", text(&none.stderr));
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("old.ckpt"), b"PK").unwrap();
    let unusable = scan(&["models", "scan", data.path().to_str().unwrap()]);
    assert_eq!(unusable.status.code(), Some(1));
    assert!(text(&unusable.stdout).contains("old.ckpt is a PyTorch file"), "{}", text(&unusable.stdout));
    assert!(text(&unusable.stderr).contains("1 model there, and none is supported"), "{}", text(&unusable.stderr));
    let file = scan(&["models", "scan", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    assert_eq!(file.status.code(), Some(1));
    assert!(text(&file.stderr).contains("Cargo.toml is not a folder, and not a model"), "{}", text(&file.stderr));
    let missing = scan(&["models", "scan", "/no/such/folder"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("/no/such/folder does not exist"), "{}", text(&missing.stderr));
}

#[test]
fn a_texture_continues_at_its_other_side() {
    let dir = folder_of(36, 28);
    // Waves that continue, of sides that are no whole latents when they are doubled.
    let value = |x: u32, y: u32| {
        let angle = |at: u32, side: u32| std::f32::consts::TAU * at as f32 / side as f32;
        (128.0 + 50.0 * angle(x, 36).sin() + 40.0 * angle(2 * y, 28).cos()) as u8
    };
    let samples = (0..28).flat_map(|y| (0..36).flat_map(move |x| [value(x, y); 3])).collect();
    let waves = Picture {
        width: 36,
        height: 28,
        channels: Channels::Rgb,
        samples: Samples::U8(samples),
        metadata: Metadata::default(),
    };
    let mut file = fs::File::create(dir.path().join("photo.png")).expect("room");
    enlarger_image::encode(&waves, &EncodeOptions::default(), &mut file).expect("it can be encoded");
    let base = ["--generative", "--seed", "3", "--creativity", "10", "--control", "none"];
    // The mean difference between columns, and between rows, that are neighbours where the texture is repeated: across the seam, as a
    // share of the largest inside.
    let steps = |pixels: &[u8]| {
        let at = |x: usize, y: usize| f64::from(pixels[(y % 56 * 72 + x % 72) * 3]);
        let column = |x: usize| (0..56).map(|y| (at(x, y) - at(x + 71, y)).abs()).sum::<f64>() / 56.0;
        let row = |y: usize| (0..72).map(|x| (at(x, y) - at(x, y + 55)).abs()).sum::<f64>() / 72.0;
        let (across, down) = ((1..72).map(column).fold(0.0, f64::max), (1..56).map(row).fold(0.0, f64::max));
        [column(0) / across, row(0) / down]
    };
    let seamless = steps(&made(dir.path(), &[&base[..], &["--seamless"]].concat()));
    let plain = steps(&made(dir.path(), &base));
    println!("across the seam, of the largest inside: {seamless:?} seamless, {plain:?} otherwise");
    assert!(seamless.iter().all(|step| *step <= 1.0), "{seamless:?}");
    assert!(seamless.iter().zip(plain).all(|(seamless, plain)| *seamless < plain), "{seamless:?} {plain:?}");
}

#[test]
fn models_and_filters_of_every_pass_see_the_other_side_of_a_texture() {
    let (dir, fake) = (folder_of(40, 32), Fake::new(Mood::Echo));
    let path = dir.path().join("photo.png");
    let whole = pixels(&path);
    // A workflow that returns what it gets leaves models, filters and resampling. To them no place of a texture is special: cut
    // elsewhere, it gives the same result, cut elsewhere.
    let cut = |whole: &[u8], width: usize, by: usize| -> Vec<u8> {
        let height = whole.len() / 3 / width;
        let place = |x: usize, y: usize| ((y + by) % height * width + (x + by) % width) * 3;
        (0..height).flat_map(|y| (0..width).flat_map(move |x| whole[place(x, y)..][..3].to_vec())).collect()
    };
    let generator = fake.generator();
    // Filters of hdr and resemblance, and two passes.
    let args =
        ["--generator", &generator, "--seed", "3", "--resemblance", "5", "--guidance", "1", "--hdr", "5", "--seamless"];
    let enlarged = || made(dir.path(), &[&args[..], &["--width", "160"]].concat());
    let first = enlarged();
    let samples = Samples::U8(cut(&whole, 40, 16));
    let other = Picture { width: 40, height: 32, channels: Channels::Rgb, samples, metadata: Metadata::default() };
    let mut file = fs::File::create(&path).expect("room");
    enlarger_image::encode(&other, &EncodeOptions::default(), &mut file).expect("it can be encoded");
    let off = cut(&first, 160, 64).iter().zip(enlarged()).map(|(a, b)| a.abs_diff(b)).max();
    println!("the texture cut elsewhere differs by {off:?} of 255");
    assert!(off <= Some(12), "{off:?}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_wait_for_a_comfyui_that_says_nothing() {
    let (dir, fake) = (folder_of(16, 16), Fake::new(Mood::Silent));
    for (number, more) in [&["--explain"][..], &[]].into_iter().enumerate() {
        let generator = fake.generator();
        let args = [&["--generator", &generator], more].concat();
        let mut child =
            command(dir.path(), MODELS.path(), &args).stderr(Stdio::piped()).spawn().expect("the binary runs");
        while fake.waiting() <= number {
            assert!(child.try_wait().expect("a child").is_none(), "it did not wait for ComfyUI");
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Instant::now();
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "{more:?}");
        assert!(sent.elapsed() < Duration::from_secs(5), "ComfyUI itself is waited for twice as long");
    }
}

#[test]
fn settings_without_effect_are_told_once_unless_quiet() {
    let dir = folder_of(16, 16);
    let said = |more: &[&str]| text(&upscale(dir.path(), &[&["--prompt", "a stone wall"], more].concat()).stderr);
    let note = "note: without the generative engine, the prompt has no effect";
    assert_eq!(said(&[]).matches(note).count(), 1, "{}", said(&[]));
    assert!(!said(&["--quiet"]).contains("note"));
    assert!(!said(&["--generative"]).contains("no effect"));
}

#[test]
fn empty_names_are_refused() {
    let dir = folder_of(16, 16);
    for flag in ["--checkpoint", "--control", "--vae", "--gpu"] {
        let out = upscale(dir.path(), &[flag, ""]);
        assert_eq!(out.status.code(), Some(2), "{flag}: {}", text(&out.stderr));
    }
}

#[test]
fn comfyui_gets_tiles_prompt_and_numbers_and_its_tiles_become_the_picture() {
    let (dir, fake) = (folder_of(350, 300), Fake::new(Mood::Echo));
    let generator = fake.generator();
    let base = ["--generator", &generator, "--prompt", "a stone wall", "--seed", "7", "--steps", "18"];
    let with = |more: &[&str]| made(dir.path(), &[&base[..], more].concat());
    // Its workflow returns what it gets: seams would be all that many tiles change.
    let (one, many) = (with(&["--fractality", "-10"]), with(&["--fractality", "10"]));
    let prompts = fake.prompts();
    assert_eq!(prompts.len(), 1 + 4, "700x600 pixels are one tile of 1536, and four of 512");
    let off = one.iter().zip(&many).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off <= Some(1), "{off:?} of 255");
    assert_eq!(many, with(&["--fractality", "10"]), "the same request gives the same pixels");

    let tile = |prompt| titled(prompt, "enlarger: tile").clone();
    let places: Vec<_> = prompts[1..].iter().map(|p| (tile(p)["x"].clone(), tile(p)["y"].clone())).collect();
    let last = |side: u64| serde_json::json!(side.div_ceil(64) * 64 - 512);
    assert_eq!(places[3], (last(700), last(600)), "the last tile ends where the canvas does: {places:?}");
    for prompt in &prompts[1..] {
        let canvas = titled(prompt, "enlarger: canvas");
        assert_eq!((canvas["width"].as_u64(), canvas["height"].as_u64()), (Some(704), Some(640)));
        assert_eq!(titled(prompt, "enlarger: seed")["noise_seed"], 7, "noise is cut out of one canvas");
        assert_eq!(titled(prompt, "enlarger: prompt")["text"], "a stone wall, high quality, detailed");
        let schedule = titled(prompt, "enlarger: steps, denoise");
        assert_eq!((&schedule["steps"], &schedule["denoise"]), (&7.into(), &0.35.into()));
        assert_eq!(titled(prompt, "enlarger: guidance, seed")["cfg"], 6.0);
        assert_eq!(titled(prompt, "enlarger: checkpoint")["ckpt_name"], "tiny.safetensors");
        assert_eq!(titled(prompt, "enlarger: strength")["strength"], 0.6);
    }
    let said = explained(dir.path(), &base);
    for part in [
        "generate by ComfyUI, workflow redraw-tile (",
        " with tiny.safetensors at 700x600, 7 steps of dpmpp_2m, denoise 0.35, guidance 6, tiles of 1024 px, seed 7, one canvas",
        "ControlNet tile.safetensors, weight 0.6",
        "note      ComfyUI draws the detail with the workflow redraw-tile with tiny.safetensors, kept close to the source by tile",
        "time unknown until ComfyUI has drawn a tile",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let file = text(&fs::read(dir.path().join("result.png")).unwrap());
    assert!(file.contains("animevideo-v3+tiny.safetensors, plan"), "the result says what drew it");
}

#[test]
fn a_workflow_of_ones_own_is_filled_where_it_has_places_and_notes_say_what_has_no_effect() {
    let (dir, fake) = (folder_of(40, 32), Fake::new(Mood::Echo));
    let node = |class: &str, title: &str, inputs: serde_json::Value| serde_json::json!({ "class_type": class, "inputs": inputs, "_meta": { "title": title } });
    let mine = serde_json::json!({
        "1": node("LoadImage", "enlarger: source", serde_json::json!({ "image": "a.png" })),
        "2": node("RandomNoise", "enlarger: seed", serde_json::json!({ "noise_seed": 1 })),
        "15": node("PreviewImage", "enlarger: result", serde_json::json!({ "images": ["1", 0] })),
    });
    fs::write(dir.path().join("mine.json"), mine.to_string()).unwrap();
    let args = [
        "--generator",
        &fake.generator(),
        "--workflow",
        "mine.json",
        "--seed",
        "7",
        "--lora",
        "grain",
        "--width",
        "160",
    ];
    made(dir.path(), &args);
    let seeds: Vec<_> =
        fake.prompts().iter().map(|p| titled(p, "enlarger: seed")["noise_seed"].as_u64().unwrap()).collect();
    assert!(seeds.len() == 2 && seeds[0] != seeds[1], "each pass and tile has its own: {seeds:?}");
    let said = explained(dir.path(), &args);
    let idle = "the workflow mine has no place for these settings, which have no effect: prompt, negative prompt, creativity, \
        hdr and guidance, steps, sampler, LoRAs";
    assert!(said.contains(idle) && said.contains("a seed for each tile"), "{said}");
    let page = r#"{ "nodes": [], "links": [] }"#;
    fs::write(dir.path().join("page.json"), page).unwrap();
    fs::remove_file(dir.path().join("result.png")).unwrap();
    let told = refused(dir.path(), &["--generator", &fake.generator(), "--workflow", "page.json"]);
    assert!(
        told.contains("page.json is saved in the format of ComfyUI's page") && told.contains("Export (API)"),
        "{told}"
    );
    let told = refused_with(dir.path(), &["--generator", &fake.generator(), "--workflow", "none.json"], 2);
    assert!(told.contains("none.json cannot be read"), "{told}");
}

#[test]
fn what_goes_wrong_in_comfyui_is_told_with_tile_and_reason() {
    let dir = folder_of(40, 32);
    for (mood, said) in [
        (
            Mood::Fails,
            "the node SamplerCustom (\"enlarger: guidance, seed\") failed in ComfyUI: RuntimeError: The size of tensor a (16) \
            must match the size of tensor b (8), in tile 1 of 1",
        ),
        (Mood::Interrupted, "somebody interrupted the workflow in ComfyUI, in tile 1 of 1"),
        (Mood::Refuses, "Value 20000 bigger than max of 16384 (width)"),
        (Mood::Small, "made 384x288 pixels of 128x64, in tile 1 of 1"),
        (Mood::Text, "made a result that cannot be read"),
        (Mood::Black, "made a tile of a single color, in tile 1 of 1"),
        (Mood::Hangs, "there is no way to it, or the connection was lost, in tile 1 of 1"),
        (Mood::Forgets, "ComfyUI no longer knows the workflow"),
        (Mood::Page, "ComfyUI sent an unexpected response to /object_info: it is a web page"),
        (Mood::Login, "a proxy in front of it asks for a login (status 401)"),
        (Mood::Down, "a proxy in front of it answers with status 502"),
        (Mood::Old, "ComfyUI lacks nodes that the workflow uses: AddNoise"),
    ] {
        let fake = Fake::new(mood);
        let told = refused(dir.path(), &["--generator", &fake.generator()]);
        assert!(told.contains(said) && !told.contains("secret"), "{said}: {told}");
        assert!(mood != Mood::Hangs || fake.deleted() == 1, "what may still run there is taken back");
        let address = matches!(mood, Mood::Small | Mood::Text | Mood::Black) || told.contains(&fake.address);
        assert!(address, "people are told where their own ComfyUI is: {told}");
    }
    // A poll that fails is not the end of a job.
    let shy = Fake::new(Mood::Shy);
    made(dir.path(), &["--generator", &shy.generator()]);
    fs::remove_file(dir.path().join("result.png")).expect("it was made");
    let fake = Fake::new(Mood::Echo);
    let told = refused(dir.path(), &["--generator", &fake.generator(), "--checkpoint", "other"]);
    assert!(
        told.contains("ComfyUI has no checkpoint named \"other\"") && told.contains("it has tiny.safetensors"),
        "{told}"
    );
    let gone = fake.generator();
    drop(fake);
    let told = refused(dir.path(), &["--generator", &gone]);
    assert!(told.contains("the connection was refused") && told.contains("start ComfyUI"), "{told}");
    let told = refused(dir.path(), &["--generator", "comfyui=http://comfyui.invalid:8188"]);
    assert!(told.contains("the name of its host is not known") && told.contains("correct the address"), "{told}");
    let plain = Fake::new(Mood::Echo);
    let told = refused(dir.path(), &["--generator", &plain.generator().replace("http:", "https:")]);
    assert!(told.contains("TLS failed: ") && told.contains("give `generator` an http address"), "{told}");
    for wrong in ["http://127.0.0.1:8188", "comfyui=ftp://a", "comfyui=http://me:hunter2@host", "local"] {
        let out = upscale(dir.path(), &["--generator", wrong]);
        assert_eq!(out.status.code(), Some(2), "{wrong}: {}", text(&out.stderr));
        let said = text(&out.stderr);
        assert!(said.contains("expected comfyui=http://HOST:PORT") && !said.contains("hunter2"), "{said}");
    }
}
