//! The networks on a GPU: Mesa's software renderer, which computes what cards do, slowly.

mod common;
#[path = "../../enlarger-nn/tests/common/lavapipe.rs"]
mod lavapipe;

use std::{ops::ControlFlow, sync::Arc};

use common::{close, download, file, reference, signal, upload};
use enlarger_diffusion::{
    bundle::Costs,
    clip::{CHUNK, Clip, Token},
    cost,
    engine::{Conditioning, Model, Prompted, Request, control_weights, latents},
    gpu::{Gpu, need},
    layers::Heads,
    ops::{Activation, Ops},
    sampler::{Prediction, Sampler, Schedule},
    tiles::{Tiles, Whole},
    unet::{Context, ControlNet, Unet, heads},
    vae::Vae,
    weights::{Part, Weights},
};
use enlarger_nn::{
    Backend, GpuChoice, Precision,
    devices::gpu::{tensors::Tensors, tensors_of},
};
use safetensors::Dtype;

/// Relative to the largest value, as in `parity.rs`.
const FULL: f32 = 1e-3;
/// In 16 bits.
const HALF: f32 = 5e-3;

fn tensors(precision: Precision) -> Arc<Tensors> {
    lavapipe::load();
    let backend = Backend { gpu: GpuChoice::Named("llvmpipe".into()), precision, ..Backend::default() };
    let device = backend.find().expect("it was just loaded");
    tensors_of(&*device).expect("it is a GPU").expect("it works")
}

fn gpu(tensors: Arc<Tensors>) -> Gpu {
    Gpu::cancelled_by(tensors, Arc::default())
}

#[test]
fn the_networks_on_a_gpu_give_what_diffusers_gives_within_the_memory_that_is_known_before() {
    let (folder, reference) = (tempfile::tempdir().unwrap(), reference("sd15"));
    let prefix = "cond_stage_model.transformer.text_model.";
    let prefixes = ["model.diffusion_model.", "control_model.", "first_stage_model.", prefix];
    let file = file(folder.path(), "sd15", &prefixes, Dtype::F16);
    let of = |at: usize, part| Weights::new(&file, prefixes[at], part);
    let [unet, control, vae] = [of(0, Part::Unet), of(1, Part::Unet), of(2, Part::Vae)];
    for (precision, bound) in [(Precision::F32, FULL), (Precision::Auto, HALF)] {
        let card = tensors(precision);
        let ops = gpu(card.clone());
        let ids = [49406, 320, 2368, 267, 1215, 49405, 7, 2368].into_iter().chain(std::iter::repeat(49407));
        let tokens: Vec<Token> = ids.take(CHUNK).map(Token::Word).collect();
        let clip = Clip::load(&ops, &of(3, Part::Clip), Activation::QuickGelu, Heads::Count(4)).unwrap();
        let text = ops.download(&clip.encode(&ops, &tokens, 0, true).unwrap().hidden).unwrap();
        close("text", &text, &reference["text.1"], bound);

        let net = Unet::load(&ops, &unet, heads(&unet)).unwrap();
        let text = ops.upload([1, 1, 77, 32], &signal("context", 77 * 32, 1.0)).unwrap();
        let context = Context { text, added: None };
        let x = upload(&ops, &signal("x", 4 * 8 * 16, 1.0), [4, 8, 16]);
        let got = net.run(&ops, &x, 500.0, &context, None).unwrap();
        close("unet", &download(&ops, &got), &reference["unet.500"], bound);

        let net = ControlNet::load(&ops, &control, heads(&control)).unwrap();
        let hint: Vec<f32> = signal("hint", 3 * 64 * 64, 1.0).iter().map(|v| (v / 4.0 + 0.5).clamp(0.0, 1.0)).collect();
        let hint = net.hint(&ops, &upload(&ops, &hint, [3, 64, 64])).unwrap();
        let x = upload(&ops, &signal("small", 4 * 8 * 8, 1.0), [4, 8, 8]);
        let residuals = net.run(&ops, &x, 500.0, &context, &hint).unwrap();
        for at in [0, 6, 12] {
            let got = download(&ops, &residuals.tensors()[at]);
            close(&format!("residual {at}"), &got, &reference[&format!("control.{at:02}")], bound);
        }

        let net = Vae::load(&ops, &vae, 1.0).unwrap();
        let pixels = upload(&ops, &signal("pixels", 3 * 32 * 48, 0.5), [3, 32, 48]);
        close("mean", &download(&ops, &net.encode(&ops, &pixels).unwrap()), &reference["vae.mean"], bound);
        let small = upload(&ops, &signal("latents", 4 * 4 * 6, 1.0), [4, 4, 6]);
        close("decode", &download(&ops, &net.decode(&ops, &small).unwrap()), &reference["vae.decode"], bound);

        // Maps that are many times larger than the weights.
        let card = tensors(precision);
        let ops = gpu(card.clone());
        let net = Vae::load(&ops, &vae, 1.0).unwrap();
        let cut = ops.upload([1, 16, 16, 4], &signal("latents", 4 * 16 * 16, 1.0)).unwrap();
        net.decode(&ops, &cut).unwrap();
        let (parameters, maps) = (vae.parameters(), cost::decoder(&vae, [128, 128]).bytes);
        let needed = need(&card, &Costs { parameters, maps, loaded: vae.bytes(), ..Costs::default() });
        println!("{} kB of {} kB", card.peak() >> 10, needed >> 10);
        assert!(card.peak() <= needed && card.peak() > needed / 4, "{} of {needed}", card.peak());
    }
}

#[test]
fn image_to_image_on_a_gpu_ends_where_diffusers_ends() {
    let (folder, reference) = (tempfile::tempdir().unwrap(), reference("sd15"));
    let prefixes = ["model.diffusion_model.", "first_stage_model.", "control_model."];
    let file = file(folder.path(), "sd15", &prefixes, Dtype::F16);
    let of = |at: usize, part| Weights::new(&file, prefixes[at], part);
    let ops = gpu(tensors(Precision::F32));
    let model = Model {
        unet: Unet::load(&ops, &of(0, Part::Unet), Heads::Count(8)).unwrap(),
        prediction: Prediction::Noise,
        vae: Vae::load(&ops, &of(1, Part::Vae), 0.18215).unwrap(),
        control: Some(ControlNet::load(&ops, &of(2, Part::Unet), Heads::Count(8)).unwrap()),
    };
    let last = |values: &[f32], channels: usize, side: usize| -> Vec<f32> {
        let area = side * side;
        (0..values.len()).map(|i| values[i % channels * area + i / channels]).collect()
    };
    let picture: Vec<f32> = signal("hint", 3 * 64 * 64, 1.0).iter().map(|v| (v / 4.0 + 0.5).clamp(0.0, 1.0)).collect();
    let picture = last(&picture, 3, 64);
    let whole = Whole { pixels: &picture, width: 64 };
    let text = |name| Conditioning { hidden: signal(name, CHUNK * 32, 1.0), width: 32, added: None };
    let mut schedule = Schedule::karras(18, 7).unwrap();
    schedule.times.clone_from(&reference["loop.dpmpp.timesteps"]);
    let request = Request {
        pixels: &whole,
        width: 64,
        height: 64,
        prompt: &text("context"),
        negative: &text("negative"),
        guidance: 6.0,
        sampler: Sampler::Dpmpp2m,
        schedule: &schedule,
        noise: &last(&signal("noise", 4 * 8 * 8, 1.0), 4, 8),
        step_seed: 0,
        control: Some((&whole, &control_weights(13, 0.6, 0.825))),
        tiles: &Tiles::one(),
    };
    // Both prompts at once.
    let networks = Prompted::new(&model, ops, &request).unwrap();
    let got = latents(&networks, &request, &mut |_| ControlFlow::Continue(())).unwrap();
    close("dpmpp", &got, &last(&reference["loop.dpmpp.latents"], 4, 8), FULL);
}
