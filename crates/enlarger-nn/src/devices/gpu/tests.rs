//! What happens when a card fails, which a healthy one has to be made to do.

#[path = "../../../tests/common/lavapipe.rs"]
pub mod lavapipe;

use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    card::Adapter,
    guarded::{Gpu, Host},
    kernel::Kind,
    tile::Matrix,
};
use crate::{
    arch::{RrdbNet, detect},
    architecture::Architecture,
    device::{Device, Precision},
    devices::Backend,
    network::Network,
    strips::{RunOptions, Sink, Source, pool, upscale},
    tensor::{StateDict, Tensor},
    weights,
};

const WIDTH: usize = 40;
const HEIGHT: usize = 96;

/// A network of this width whose result is about as bright as its source.
fn network(features: usize) -> (RrdbNet, StateDict) {
    let network = RrdbNet { unshuffle: 1, channels: 3, features, blocks: 1, growth: features, upsamplings: 2 };
    let mut dict = StateDict::default();
    for conv in network.graph().convs() {
        let mut data = vec![0.0; conv.outputs * conv.inputs * 9];
        for output in 0..conv.outputs {
            // Each output is the same channel of what it reads, and a little of the others.
            for input in 0..conv.inputs {
                let centre = (output * conv.inputs + input) * 9 + 4;
                data[centre] = if input == output { 1.0 } else { 0.001 * ((input + 3 * output) % 5) as f32 };
            }
        }
        let growing = conv.name.contains(".rdb");
        data.iter_mut().for_each(|weight| *weight *= if growing { 0.01 } else { 1.0 });
        if conv.name == "conv_body" {
            data.fill(0.0);
        }
        dict.0.insert(format!("{}.weight", conv.name), Tensor { shape: vec![conv.outputs, conv.inputs, 3, 3], data });
        dict.0
            .insert(format!("{}.bias", conv.name), Tensor { shape: vec![conv.outputs], data: vec![0.0; conv.outputs] });
    }
    (network, dict)
}

/// A gradient from half of this brightness on.
struct Gradient(f32);

impl Source for Gradient {
    fn width(&self) -> u32 {
        WIDTH as u32
    }
    fn height(&self) -> u32 {
        HEIGHT as u32
    }
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        let pixels = (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y)));
        rgb.chunks_exact_mut(3)
            .zip(pixels)
            .for_each(|(rgb, (x, y))| rgb.fill(self.0 * (0.5 + 0.002 * (x + 2 * y) as f32)));
    }
}

/// The result, each row once; and what happens when the first rows come.
struct Canvas<'a> {
    rows: Mutex<Vec<Option<Vec<f32>>>>,
    first: &'a (dyn Fn() + Sync),
}

impl Sink for Canvas<'_> {
    fn write(&self, _: u32, y: u32, w: u32, h: u32, rgb: &[f32]) {
        (self.first)();
        let mut rows = self.rows.lock().expect("no panic under it");
        for (row, y) in rgb.chunks_exact(rgb.len() / h as usize).zip(y as usize..) {
            assert_eq!(row.len(), w as usize * 3);
            assert!(rows[y].replace(row.to_vec()).is_none(), "row {y} comes once");
        }
    }
}

/// A small picture with waves and squares.
struct Waves;

impl Source for Waves {
    fn width(&self) -> u32 {
        24
    }
    fn height(&self) -> u32 {
        18
    }
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        let pixels = (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x as f32, y as f32)));
        for (rgb, (x, y)) in rgb.chunks_exact_mut(3).zip(pixels) {
            rgb[0] = 0.5 + 0.3 * (0.7 * x + 0.2 * y).sin();
            rgb[1] = 0.5 + 0.3 * (0.4 * y - 0.1 * x).cos();
            rgb[2] = if (x as u32 / 5 + y as u32 / 7).is_multiple_of(2) { 0.3 } else { 0.6 };
        }
    }
}

/// A light picture.
const LIGHT: Gradient = Gradient(1.0);

/// The whole result in bands, and the notes.
fn enlarge(network: &Network, picture: &dyn Source, first: &(dyn Fn() + Sync)) -> (Vec<f32>, Vec<String>) {
    let rows = (network.scale() * picture.height()) as usize;
    let canvas = Canvas { rows: Mutex::new(vec![None; rows]), first };
    let options = RunOptions { strip: Some(picture.width()), halo: None };
    let run = || upscale(network, picture, &canvas, &options, &|_| ControlFlow::Continue(()));
    let notes = pool(2).and_then(|pool| pool.install(run)).expect("it ends well");
    let rows = canvas.rows.into_inner().expect("no panic under it");
    (rows.into_iter().flat_map(|row| row.expect("every row comes")).collect(), notes)
}

/// The software renderer, with kernels of another text.
fn card(text: fn(&Kind) -> String) -> Gpu {
    lavapipe::load();
    gpu(software_renderer(), None, text)
}

fn software_renderer() -> Adapter {
    Adapter::all().into_iter().find(|adapter| adapter.is.is_called("llvmpipe")).expect("it was loaded")
}

fn gpu(adapter: Adapter, matrix: Option<Matrix>, text: fn(&Kind) -> String) -> Gpu {
    let host = Host::with_kernels(adapter, None, Precision::Auto, matrix, Arc::default(), text).expect("it opens");
    Gpu::new(host, Backend::default().find().expect("there is one"))
}

fn build(device: &dyn Device) -> Network {
    build_of(8, device)
}

fn build_of(features: usize, device: &dyn Device) -> Network {
    let (architecture, weights) = network(features);
    Network::build(Box::new(architecture), &weights, device).expect("weights that fit")
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// From row 40 on results are something else. Self-tests have fewer rows.
fn spoiled(kind: &Kind, into: &str) -> String {
    let text = kind.text();
    let spoiled = text.replace("= job.gain *", &format!("= select(1.0, {into}, y >= 40u) * job.gain *"));
    assert_ne!(text, spoiled);
    spoiled
}

#[test]
fn a_black_band_is_never_delivered() {
    let (expected, none) = enlarge(&build(&*Backend::default().find().expect("the CPU")), &LIGHT, &|| {});
    assert!(none.is_empty());
    let black: fn(&Kind) -> String = |kind| spoiled(kind, "0.0");
    let not_a_number: fn(&Kind) -> String = |kind| spoiled(kind, "bitcast<f32>(0x7fc00000u + job.padding)");
    for (text, why) in [(black, "a brightness of"), (not_a_number, "not numbers")] {
        let network = build(&card(text));
        for again in [false, true] {
            let (result, notes) = enlarge(&network, &LIGHT, &|| {});
            assert!(worst(&result, &expected) < 0.01, "{}", worst(&result, &expected));
            let [note] = &*notes else { panic!("{notes:?}") };
            assert!(note.contains("llvmpipe") && note.contains(why), "{again}: {note}");
        }
    }
    // Where the picture itself is nearly black, too.
    let dark = Gradient(0.1);
    let (expected_dark, _) = enlarge(&build(&*Backend::default().find().expect("the CPU")), &dark, &|| {});
    let (result, notes) = enlarge(&build(&card(black)), &dark, &|| {});
    let off = worst(&result, &expected_dark);
    assert!(off < 0.002 && notes[0].contains("one color"), "{off} {notes:?}");
    let (result, notes) = enlarge(&build(&card(Kind::text)), &LIGHT, &|| {});
    assert!(worst(&result, &expected) < 0.01 && notes.is_empty(), "a healthy card is trusted: {notes:?}");
}

#[test]
fn a_card_that_fails_its_self_test_is_not_used() {
    let wrong: fn(&Kind) -> String = |kind| kind.text().replace("y >= 0 &&", "y > 0 &&");
    let (result, notes) = enlarge(&build(&card(wrong)), &LIGHT, &|| {});
    let (expected, _) = enlarge(&build(&*Backend::default().find().expect("the CPU")), &LIGHT, &|| {});
    assert_eq!(worst(&result, &expected), 0.0, "the CPU computed all");
    assert!(notes[0].contains("self-test"), "{notes:?}");
}

#[test]
fn a_lost_device_goes_on_on_the_processor() {
    let gpu = card(Kind::text);
    let network = build(&gpu);
    let (expected, _) = enlarge(&build(&*Backend::default().find().expect("the CPU")), &LIGHT, &|| {});
    // What is computed next is computed on it again, by this network and others, until it was lost too often.
    for losses in 1..=3 {
        let lost = AtomicBool::default();
        let lose = || {
            if !lost.swap(true, Ordering::Relaxed) {
                gpu.host.engine().expect("it is open").card.lose();
            }
        };
        let (result, notes) = enlarge(&network, &LIGHT, &lose);
        assert!(worst(&result, &expected) < 0.01, "{}", worst(&result, &expected));
        let [note] = &*notes else { panic!("{notes:?}") };
        assert!(note.contains("lost"), "{note}");
        let health = gpu.health().expect("a GPU's");
        assert_eq!((health.losses, health.fallbacks, health.in_use), (losses, losses, losses < 3), "{health:?}");
        if losses < 3 {
            for network in [&network, &build(&gpu)] {
                let (result, notes) = enlarge(network, &LIGHT, &|| {});
                assert!(worst(&result, &expected) > 0.0 && notes.is_empty(), "it is used again: {notes:?}");
            }
        }
    }
    for network in [&network, &build(&gpu)] {
        let (result, notes) = enlarge(network, &LIGHT, &|| {});
        assert!(worst(&result, &expected) == 0.0 && notes[0].contains("lost 3 times"), "{notes:?}");
    }
    assert!(gpu.host.engine().is_err(), "it is not opened again");
}

/// Kernels pack 16-bit floats into integers, so drivers need not have them.
#[test]
fn a_driver_without_f16_is_enough() {
    let gpu = card(Kind::text);
    assert!(!gpu.host.engine().expect("it is open").card.has_f16());
    let (result, notes) = enlarge(&build(&gpu), &LIGHT, &|| {});
    let (expected, _) = enlarge(&build(&*Backend::default().find().expect("the CPU")), &LIGHT, &|| {});
    assert!(worst(&result, &expected) < 0.01 && notes.is_empty(), "{notes:?}");
}

/// What units for matrices do is tried by the only software renderer that has them, which needs a C library of its own: this program
/// runs itself by that.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn matrix_units_compute_what_threads_do_and_threads_go_on_where_they_fail() {
    const INSIDE: &str = "ENLARGER_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return on_matrix_units();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/lavapipe-matrix");
    if !folder.join("driver.json").exists() {
        println!("Not tested here: `.ci/lavapipe-matrix.sh` could not bring Mesa 26.");
        return;
    }
    let mut again = Command::new(folder.join("lib/ld-linux-x86-64.so.2"));
    again.arg("--library-path").arg(folder.join("lib")).arg(std::env::current_exe().expect("a path"));
    let name = "devices::gpu::tests::matrix_units_compute_what_threads_do_and_threads_go_on_where_they_fail";
    again.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").env("VK_DRIVER_FILES", folder.join("driver.json"));
    let out = again.output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    print!("{said}");
    assert!(out.status.success() && said.contains("1 passed") && said.contains("by matrices of 8"), "{said}");
}

fn on_matrix_units() {
    let adapter = software_renderer();
    let matrix = adapter.matrix();
    assert_eq!(matrix.map(|matrix| matrix.side), Some(8), "{adapter:?}");
    let by_matrices = |text| gpu(adapter.clone(), matrix, text);
    let kernel = |gpu: &Gpu| gpu.health().expect("a GPU's").kernel;

    // Bundled networks, against the CPU.
    let cpu = Backend { precision: Precision::F32, ..Backend::default() }.find().expect("the CPU");
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/weights");
    let mut compared = 0;
    for entry in fs::read_dir(weights).expect("bundled weights") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let build = |device: &dyn Device| {
            let (architecture, weights) = weights::read(&path).and_then(detect).expect("a bundled network");
            Network::build(architecture, &weights, device).expect("it loads")
        };
        let gpu = by_matrices(Kind::text);
        let (result, notes) = enlarge(&build(&gpu), &Waves, &|| {});
        let (expected, _) = enlarge(&build(&*cpu), &Waves, &|| {});
        assert!(notes.is_empty() && kernel(&gpu) == "matrix", "{notes:?}");
        let squares: f64 = result.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let db = -10.0 * (squares / result.len() as f64).log10();
        println!("{}: {db:.1} dB by matrices of 8", path.display());
        assert!(db >= 60.0, "{}: {db:.1} dB", path.display());
        compared += 1;
    }
    assert!(compared >= 5, "{compared} networks");

    // Units that compute something wrong, at once or later on.
    let (expected, _) = enlarge(&build_of(16, &*cpu), &LIGHT, &|| {});
    let fails_self_test: fn(&Kind) -> String =
        |kind| if kind.matrix.is_some() { kind.text().replace("y >= 0 &&", "y > 0 &&") } else { kind.text() };
    let black: fn(&Kind) -> String = |kind| if kind.matrix.is_some() { spoiled(kind, "0.0") } else { kind.text() };
    for (text, said) in
        [(fails_self_test, None), (black, Some("went on without its matrix units: it computed a brightness"))]
    {
        let gpu = by_matrices(text);
        let network = build_of(16, &gpu);
        let (result, notes) = enlarge(&network, &LIGHT, &|| {});
        assert!(worst(&result, &expected) < 0.01 && worst(&result, &expected) > 0.0, "{}", worst(&result, &expected));
        match said {
            None => assert!(notes.is_empty(), "{notes:?}"),
            Some(said) => assert!(notes.len() == 1 && notes[0].contains(said), "{notes:?}"),
        }
        assert_eq!((kernel(&gpu), gpu.health().expect("a GPU's").fallbacks), ("fma", 0));
        let (again, notes) = enlarge(&network, &LIGHT, &|| {});
        assert!(again == result && notes.is_empty(), "threads go on: {notes:?}");
    }
}
