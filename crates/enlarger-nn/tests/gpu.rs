//! Networks on a GPU: Mesa's software renderer, which computes what cards do, slowly.

mod common;

use common::{Photo, gpu, portable, psnr, random_weights, run, run_in_strips, worst};
use enlarger_nn::{
    Architecture, Arithmetic, Backend, Device, GpuChoice, Network, NnError, Node, Precision, StateDict,
    arch::{Activation, Compact, RrdbNet, detect},
    devices::gpu::list,
    weights,
};

const KINDS: [Precision; 2] = [Precision::Auto, Precision::F32];

fn rrdb(unshuffle: usize, channels: usize, features: usize, growth: usize) -> RrdbNet {
    RrdbNet { unshuffle, channels, features, blocks: 1, growth, upsamplings: 2 }
}

fn compact(scale: u32, channels: usize, features: usize, activation: Activation) -> Compact {
    Compact { scale, channels, features, convs: 2, activation }
}

/// What the last convolution makes is so many times smaller than by [`random_weights`].
const CALM: f32 = 16.0;

/// Weights by which results are about as bright as their source, as those of trained networks are: what is far from it is not
/// accepted from a GPU.
fn calm(architecture: &dyn Architecture) -> StateDict {
    let mut dict = random_weights(architecture);
    let graph = architecture.graph();
    let last = &graph.convs().last().expect("there are some").name;
    let weights = dict.0.get_mut(&format!("{last}.weight")).expect("it has weights");
    weights.data.iter_mut().for_each(|weight| *weight /= CALM);
    // The others add it to the image.
    let whole = matches!(graph.nodes().last(), Some(Node::Conv(_)));
    dict.0.get_mut(&format!("{last}.bias")).expect("it has biases").data.fill(if whole { 0.5 } else { 0.0 });
    dict
}

/// A photo that is nowhere far from grey.
fn photo(width: u32, height: u32) -> Photo {
    let mut photo = Photo::waves(width, height);
    photo.rgb.iter_mut().for_each(|value| *value = 0.5 + 0.2 * (*value - 0.5));
    photo
}

fn network<A: Architecture + Copy + 'static>(architecture: A, device: &dyn Device) -> Network {
    Network::build(Box::new(architecture), &calm(&architecture), device).expect("weights that fit")
}

fn same<A: Architecture + Copy + 'static>(architecture: A, (width, height): (u32, u32)) {
    let photo = photo(width, height);
    let reference = run(&network(architecture, &*portable()), &photo);
    for precision in KINDS {
        let device = gpu(precision);
        let result = run(&network(architecture, &*device), &photo);
        let (db, off) = (psnr(&result, &reference), worst(&result, &reference));
        let right = if device.arithmetic() == Arithmetic::F16 { db >= 75.0 } else { off <= 1e-4 / CALM };
        assert!(right, "{device} {architecture} {width}x{height}: {db:.1} dB, {off}");
    }
}

#[test]
fn a_gpu_computes_networks_of_all_kinds_and_sizes_as_the_cpu_does() {
    same(rrdb(1, 3, 64, 32), (21, 17));
    same(rrdb(2, 3, 24, 12), (35, 9));
    same(rrdb(4, 1, 16, 8), (13, 18));
    same(compact(4, 3, 64, Activation::Prelu), (33, 5));
    same(compact(3, 1, 24, Activation::Prelu), (1, 1));
    same(compact(1, 3, 10, Activation::Relu), (40, 2));
    same(compact(2, 3, 16, Activation::Relu), (1, 40));
}

#[test]
fn photo_2x_on_a_gpu_is_what_the_cpu_computes() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/weights/photo-2x.safetensors");
    let (architecture, dict) = weights::read(file.as_ref()).and_then(detect).expect("a bundled network");
    let photo = Photo::waves(40, 24);
    let reference = run(&Network::build(architecture, &dict, &*portable()).expect("it loads"), &photo);
    let (architecture, dict) = detect(dict).expect("the same network");
    let result = run(&Network::build(architecture, &dict, &*gpu(Precision::Auto)).expect("it loads"), &photo);
    let db = psnr(&result, &reference);
    assert!(db >= 60.0, "{db:.1} dB");
}

/// Convolutions add in the same order wherever a band begins.
#[test]
fn bands_on_a_gpu_equal_one_band() {
    let photo = photo(37, 101);
    for precision in KINDS {
        let device = gpu(precision);
        for network in [
            network(rrdb(1, 3, 16, 8), &*device),
            network(RrdbNet { blocks: 2, ..rrdb(2, 3, 16, 8) }, &*device),
            network(rrdb(4, 3, 16, 8), &*device),
            network(compact(3, 3, 16, Activation::Prelu), &*device),
        ] {
            let uncut = run_in_strips(&network, &photo, 2, Some(4096));
            // As wide as the photo, so that there is one strip, in bands of so many rows.
            let bands = run_in_strips(&network, &photo, 2, Some(37));
            assert_eq!(worst(&uncut, &bands), 0.0, "{device}");
            // The image is wider than the strips, so those are as wide as their halos need.
            let strips = run_in_strips(&network, &photo, 2, Some(20));
            assert!(worst(&uncut, &strips) <= 1.0 / 255.0, "{device}");
        }
    }
}

#[test]
fn the_need_is_known_before_the_start() {
    let weights = calm(&rrdb(1, 3, 64, 32));
    let build = |memory: u64| {
        common::load_gpu_driver();
        let gpu = GpuChoice::Named("llvmpipe".into());
        let device = Backend { gpu, gpu_memory: Some(memory), ..Backend::default() }.find().expect("it opens");
        Network::build(Box::new(rrdb(1, 3, 64, 32)), &weights, &*device)
    };
    let Err(NnError::DeviceMemory { needed, budget }) = build(1 << 20) else { panic!("a megabyte is not enough") };
    assert!(budget == 1 << 20 && needed > budget);
    let error = build(1 << 20).err().expect("the same").to_string();
    assert!(error.contains(&format!("needs {} MB", needed.div_ceil(1 << 20))), "{error}");
    // What it says is enough, is; and is used for strips.
    assert!(build(needed - 1).is_err());
    let network = build(needed).expect("it fits");
    let photo = photo(300, 3);
    assert_eq!(run(&network, &photo).len(), 300 * 3 * 16 * 3);
}

#[test]
fn a_gpu_is_named_by_text_or_address() {
    common::load_gpu_driver();
    let find = |text: &str| Backend { gpu: GpuChoice::Named(text.into()), ..Backend::default() }.find();
    assert!(find("LLVM").expect("part of its name, in any case").title().starts_with("llvmpipe"));
    let error = find("radeon").expect_err("there is none").to_string();
    assert!(error.contains("\"radeon\"") && error.contains("there are: llvmpipe"), "{error}");
    assert!(find("pci:01:00.0").is_err(), "it has no address");
    let whole = Backend { precision: Precision::Int16, gpu: GpuChoice::Named("llvm".into()), ..Backend::default() };
    let error = whole.find().expect_err("cards compute in floats").to_string();
    assert_eq!(error, "this machine does not support llvm with int16");
}

#[test]
fn a_software_renderer_is_never_chosen() {
    common::load_gpu_driver();
    assert!(list().cards.iter().any(|card| card.name.starts_with("llvmpipe")), "it is there");
    for gpu in [GpuChoice::Auto, GpuChoice::All] {
        let chosen = Backend { gpu, ..Backend::default() }.find_all().expect("the CPU");
        let chosen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        assert_eq!(chosen, [Backend::default().find().expect("the CPU").to_string()]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn starts_without_a_loader() {
    let needed = std::process::Command::new("ldd").arg(std::env::current_exe().expect("a path")).output();
    let needed = String::from_utf8(needed.expect("ldd runs").stdout).expect("a list of libraries");
    assert!(needed.contains("libc.so") && !needed.contains("vulkan"), "no library of a driver is linked: {needed}");
    // Whether there is a loader or not, this is an answer.
    Backend { gpu: GpuChoice::Auto, ..Backend::default() }.find().expect("the CPU at least");
}
