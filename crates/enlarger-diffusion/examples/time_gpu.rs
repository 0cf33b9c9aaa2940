//! Times kernels, upscaling models and the networks of Stable Diffusion on a GPU, for `benches/gpu.py`.
//!
//! Usage: `time_gpu GPU WEIGHTS CHECKPOINT [tiny]`: part of a GPU's name, the folder of the bundled weights, and a checkpoint. `tiny`
//! takes sizes that a software renderer can do. Prints a JSON object per measurement: what it was, the fewest seconds that it took, and
//! its operations, convolutions being computed directly.

use std::{error::Error, ops::ControlFlow, path::Path, sync::Arc, time::Instant};

use enlarger_diffusion::{
    cost,
    family::Checkpoint,
    gpu::Gpu,
    ops::Ops,
    unet::{Context, Unet, heads},
    vae::Vae,
};
use enlarger_nn::{
    Backend, Device, GpuChoice, Network, RunOptions, Sink, Source,
    arch::detect,
    devices::gpu::{
        tensors::{Tensor, Tensors, Walk},
        tensors_of,
    },
    pool, upscale, weights,
};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A measurement is repeated until so many seconds are over.
const SECONDS: f64 = 3.0;
/// Runs of a kernel that are measured together.
const RUNS: usize = 10;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [gpu, weights, checkpoint, rest @ ..] = &arguments[..] else {
        return Err("time_gpu GPU WEIGHTS CHECKPOINT [tiny]".into());
    };
    let tiny = rest.iter().any(|word| word == "tiny");
    let device = Backend { gpu: GpuChoice::Named(gpu.clone()), ..Backend::default() }.find()?;
    let tensors = tensors_of(&*device).ok_or("this is no GPU")??;
    println!("{}", json!({ "device": device.to_string(), "kernel": device.health().map(|health| health.kernel) }));
    kernels(&tensors, tiny)?;
    for name in ["x4plus", "animevideo-v3"] {
        let sizes = if tiny { [[16, 16], [24, 16]] } else { [[512, 512], [960, 540]] };
        for size in sizes {
            network(&*device, &Path::new(weights).join(format!("{name}.safetensors")), name, size)?;
        }
    }
    diffusion(&tensors, Path::new(checkpoint), if tiny { 8 } else { 64 })
}

/// Measures something, and prints it.
fn time(what: &str, flops: f64, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    // Compiles and tests kernels.
    run()?;
    let (begun, mut best) = (Instant::now(), f64::INFINITY);
    while begun.elapsed().as_secs_f64() < SECONDS {
        let started = Instant::now();
        run()?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    println!("{}", json!({ "what": what, "seconds": best, "flops": flops }));
    Ok(())
}

fn kernels(on: &Arc<Tensors>, tiny: bool) -> Result<()> {
    let (width, shrink) = (on.width(), if tiny { 8 } else { 1 });
    // Work is done in order, so what comes last tells when all is done.
    let last = on.upload([1, 1, 1, 4], &[0.0; 4], width)?;
    let repeated = |what: &str, flops: f64, run: &dyn Fn() -> Result<Tensor>| {
        time(what, RUNS as f64 * flops, || {
            (0..RUNS).try_for_each(|_| run().map(drop))?;
            on.download(&last)?;
            Ok(())
        })
    };
    let map = |[side, channels]: [usize; 2], batch: usize| {
        on.upload([batch, side, side, channels], &vec![0.5; batch * side * side * channels], width)
    };
    let fill = |_: usize, to: &mut [f32]| to.iter_mut().enumerate().for_each(|(at, to)| *to = (at % 7) as f32 * 0.001);
    for (side, channels) in [(64, 320), (32, 640), (16, 1280), (512, 128)] {
        let side = side / shrink;
        let (x, w) = (map([side, channels], 1)?, on.filters([channels, channels, 3], width, &fill, None)?);
        let flops = 2.0 * (side * side * 9 * channels * channels) as f64;
        let what = format!("conv 3x3, {channels} channels, {side}x{side}, {RUNS} times");
        repeated(&what, flops, &|| Ok(on.conv(&x, &w, Walk::around(3), None)?))?;
    }
    let (side, channels) = (64 / shrink, 320);
    let (x, w) = (map([side, channels], 2)?, on.filters([8 * channels, channels, 1], width, &fill, None)?);
    let flops = 2.0 * (2 * side * side * 8 * channels * channels) as f64;
    let what = format!("linear, {channels} to {} channels, {} tokens, {RUNS} times", 8 * channels, 2 * side * side);
    repeated(&what, flops, &|| Ok(on.conv(&x, &w, Walk::around(1), None)?))?;
    let flops = 4.0 * 2.0 * ((side * side) as f64).powi(2) * channels as f64;
    let what = format!("attention, 8 heads of 40, 2 x {} tokens, {RUNS} times", side * side);
    repeated(&what, flops, &|| Ok(on.attention([&x, &x, &x], 8, false)?))
}

/// Noise.
struct Photo([u32; 2]);

impl Source for Photo {
    fn width(&self) -> u32 {
        self.0[0]
    }
    fn height(&self) -> u32 {
        self.0[1]
    }
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        let pixels = (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y)));
        rgb.chunks_exact_mut(3).zip(pixels).for_each(|(rgb, (x, y))| rgb.fill(((x * 7 + y * 13) % 64) as f32 / 64.0));
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, _: u32, _: u32, _: u32, _: u32, _: &[f32]) {}
}

fn network(device: &dyn Device, file: &Path, name: &str, [width, height]: [u32; 2]) -> Result<()> {
    let (architecture, weights) = weights::read(file).and_then(detect)?;
    let network = Network::build(architecture, &weights, device)?;
    let flops = network.flops_per_pixel() * f64::from(width * height);
    let pool = pool(std::thread::available_parallelism().map_or(1, usize::from))?;
    let go_on = |_| ControlFlow::Continue(());
    time(&format!("{name}, {width}x{height}"), flops, || {
        let notes =
            pool.install(|| upscale(&network, &Photo([width, height]), &Nowhere, &RunOptions::default(), &go_on))?;
        if notes.is_empty() { Ok(()) } else { Err(notes.join("; ").into()) }
    })
}

fn diffusion(tensors: &Arc<Tensors>, checkpoint: &Path, side: usize) -> Result<()> {
    let ops = Gpu::cancelled_by(tensors.clone(), Arc::default());
    let checkpoint = Checkpoint::open(checkpoint)?;
    let values = |count: usize| (0..count).map(|at| ((at * 7919) % 2003) as f32 / 1001.0 - 1.0).collect::<Vec<_>>();
    let x = ops.upload([1, side, side, 4], &values(side * side * 4))?;
    let width = checkpoint.text.length("embeddings.token_embedding.weight", 1)?;
    let context = Context { text: ops.upload([1, 1, 77, width], &values(77 * width))?, added: None };
    let unet = Unet::load(&ops, &checkpoint.unet, heads(&checkpoint.unet))?;
    let flops = cost::unet(&checkpoint.unet, [side, side], 77).flops;
    time(&format!("UNet, {side}x{side} latents"), flops, || {
        let predicted = ops.download(&unet.run(&ops, &x, 500.0, &context, None)?)?;
        if predicted.iter().all(|v| v.is_finite()) {
            Ok(())
        } else {
            Err("the UNet gave values that are no numbers".into())
        }
    })?;
    drop(unet);
    let vae = Vae::load(&ops, &checkpoint.vae, 1.0)?;
    let flops = cost::decoder(&checkpoint.vae, [8 * side, 8 * side]).flops;
    time(&format!("VAE decode, {side}x{side} latents"), flops, || Ok(ops.download(&vae.decode(&ops, &x)?).map(drop)?))
}
