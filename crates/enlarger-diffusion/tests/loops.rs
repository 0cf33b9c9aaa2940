//! Whole image-to-image loops, with guidance and ControlNet, end where diffusers' end; SDXL's networks are diffusers'.

mod common;

use std::ops::ControlFlow;

use common::{close, download, file, reference, signal, upload};
use enlarger_diffusion::{
    Error,
    clip::{CHUNK, Clip, Token},
    cpu::Cpu,
    engine::{Conditioning, Model, Progress, Request, control_weights},
    layers::Heads,
    ops::{Activation, Ops},
    sampler::{Prediction, Sampler, Schedule},
    unet::{Context, ControlNet, Unet},
    vae::Vae,
    weights::{Part, Weights},
};
use safetensors::Dtype;

const LOOP: f32 = 1e-3;
const SIZES: [f32; 6] = [1024.0, 768.0, 0.0, 16.0, 1024.0, 768.0];

fn model(ops: &Cpu, kind: &str, heads: Heads, scale: f32) -> (Model<Cpu>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file =
        file(folder.path(), kind, &["model.diffusion_model.", "first_stage_model.", "control_model."], Dtype::F16);
    let part = |prefix, part| Weights::new(&file, prefix, part);
    let model = Model {
        unet: Unet::load(ops, &part("model.diffusion_model.", Part::Unet), heads).unwrap(),
        prediction: Prediction::Noise,
        vae: Vae::load(ops, &part("first_stage_model.", Part::Vae), scale).unwrap(),
        control: Some(ControlNet::load(ops, &part("control_model.", Part::Unet), heads).unwrap()),
    };
    (model, folder)
}

fn conditioning(name: &str, width: usize, pooled: Option<&str>) -> Conditioning {
    let added = pooled.map(|name| (signal(name, 48, 1.0), SIZES));
    Conditioning { hidden: signal(name, CHUNK * width, 1.0), width, added }
}

/// From channels first to channels last.
fn last(values: &[f32], shape: [usize; 3]) -> Vec<f32> {
    let ops = Cpu::default();
    ops.download(&upload(&ops, values, shape)).unwrap()
}

fn check(
    kind: &str,
    heads: Heads,
    scale: f32,
    prompts: [&Conditioning; 2],
    residuals: usize,
    loops: &[(&str, Sampler)],
) {
    let (ops, reference) = (Cpu::default(), reference(kind));
    let (model, _folder) = model(&ops, kind, heads, scale);
    let picture: Vec<f32> = signal("hint", 3 * 64 * 64, 1.0).iter().map(|v| (v / 4.0 + 0.5).clamp(0.0, 1.0)).collect();
    let picture = last(&picture, [3, 64, 64]);
    let weights = control_weights(residuals, 0.6, 0.825);
    let noise = last(&signal("noise", 4 * 8 * 8, 1.0), [4, 8, 8]);
    for &(name, sampler) in loops {
        let mut schedule = Schedule::karras(18, 7).unwrap();
        close(&format!("{name}: sigmas"), &schedule.sigmas, &reference[&format!("loop.{name}.sigmas")], 1e-5);
        schedule.times.clone_from(&reference[&format!("loop.{name}.timesteps")]);
        let request = Request {
            pixels: &picture,
            width: 64,
            height: 64,
            prompt: prompts[1],
            negative: prompts[0],
            guidance: 6.0,
            sampler,
            schedule: &schedule,
            noise: &noise,
            step_seed: 0,
            control: Some((&picture, &weights)),
        };
        let mut steps = Vec::new();
        let mut watch = |p: Progress| {
            steps.push(p.done);
            ControlFlow::Continue(())
        };
        let got = model.latents(&ops, &request, &mut watch).unwrap();
        close(name, &got, &last(&reference[&format!("loop.{name}.latents")], [4, 8, 8]), LOOP);
        assert_eq!(steps, [0, 1, 2, 3, 4, 5, 6, 7]);

        let stopped = model
            .run(&ops, &request, &mut |p| if p.done == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        assert_eq!(stopped, Err(Error::Cancelled));
    }
}

#[test]
fn image_to_image_with_a_control_net_ends_where_diffusers_ends() {
    let prompts = [conditioning("negative", 32, None), conditioning("context", 32, None)];
    let loops = [("dpmpp", Sampler::Dpmpp2m), ("euler", Sampler::Euler)];
    check("sd15", Heads::Count(8), 0.18215, [&prompts[0], &prompts[1]], 13, &loops);
}

#[test]
fn image_to_image_by_sdxl_ends_where_diffusers_ends() {
    let prompts = [conditioning("negative", 80, Some("pooled-negative")), conditioning("context", 80, Some("pooled"))];
    check("sdxl", Heads::Width(16), 0.13025, [&prompts[0], &prompts[1]], 10, &[("dpmpp", Sampler::Dpmpp2m)]);
}

#[test]
fn the_networks_of_sdxl_give_what_diffusers_gives() {
    let (ops, folder, reference) = (Cpu::default(), tempfile::tempdir().unwrap(), reference("sdxl"));
    let prefixes = ["model.diffusion_model.", "conditioner."];
    let file = file(folder.path(), "sdxl", &prefixes, Dtype::F16);
    let unet = Unet::load(&ops, &Weights::new(&file, prefixes[0], Part::Unet), Heads::Width(16)).unwrap();
    let x = upload(&ops, &signal("x", 4 * 8 * 16, 1.0), [4, 8, 16]);
    let text = ops.upload([1, 1, CHUNK, 80], &signal("context", CHUNK * 80, 1.0)).unwrap();
    let pooled = ops.upload([1, 1, 1, 48], &signal("pooled", 48, 1.0)).unwrap();
    let context = Context { text, added: Some((pooled, SIZES)) };
    for step in [1, 500, 981] {
        let got = download(&ops, &unet.run(&ops, &x, step as f32, &context, None).unwrap());
        close(&format!("step {step}"), &got, &reference[&format!("unet.{step}")], 2e-5);
    }
    let ids = |pad| {
        let ids = [49406, 320, 2368, 267, 1215, 49405, 7, 2368, 49407].into_iter().chain(std::iter::repeat(pad));
        ids.take(CHUNK).map(Token::Word).collect::<Vec<_>>()
    };
    let first = Weights::new(&file, "conditioner.embedders.0.transformer.", Part::Clip);
    let first = Clip::load(&ops, &first, Activation::QuickGelu, Heads::Count(4)).unwrap();
    let got = ops.download(&first.encode(&ops, &ids(49407), 1, false).unwrap().hidden).unwrap();
    close("CLIP-L", &got, &reference["text.first"], 2e-5);
    let second = Weights::new(&file, "conditioner.embedders.1.model.", Part::OpenClip);
    let second = Clip::load(&ops, &second, Activation::Gelu, Heads::Count(6)).unwrap();
    let encoded = second.encode(&ops, &ids(0), 1, false).unwrap();
    close("OpenCLIP-G", &ops.download(&encoded.hidden).unwrap(), &reference["text.second"], 2e-5);
    close("pooled", &encoded.pooled.unwrap(), &reference["text.pooled"], 2e-5);
}
