//! Whole image-to-image loops, with guidance and ControlNet, end where diffusers' end; SDXL's networks are diffusers'.

mod common;

use std::ops::ControlFlow;

use common::{close, download, file, reference, signal, upload};
use enlarger_diffusion::{
    Error,
    clip::{CHUNK, Clip, Token},
    cpu::Cpu,
    engine::{Conditioning, Model, Part, Progress, Prompted, Request, canvas, control_weights, latents, run},
    layers::Heads,
    ops::{Activation, Ops},
    sampler::{Prediction, Sampler, Schedule},
    tiles::{Tiles, Whole},
    unet::{Context, ControlNet, Unet},
    vae::Vae,
    weights::{Part as Network, Weights},
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
        unet: Unet::load(ops, &part("model.diffusion_model.", Network::Unet), heads).unwrap(),
        prediction: Prediction::Noise,
        vae: Vae::load(ops, &part("first_stage_model.", Network::Vae), scale).unwrap(),
        control: Some(ControlNet::load(ops, &part("control_model.", Network::Unet), heads).unwrap()),
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
    let whole = Whole { pixels: &picture, width: 64 };
    let weights = control_weights(residuals, 0.6, 0.825);
    let noise = last(&signal("noise", 4 * 8 * 8, 1.0), [4, 8, 8]);
    for &(name, sampler) in loops {
        let mut schedule = Schedule::karras(18, 7).unwrap();
        close(&format!("{name}: sigmas"), &schedule.sigmas, &reference[&format!("loop.{name}.sigmas")], 1e-5);
        schedule.times.clone_from(&reference[&format!("loop.{name}.timesteps")]);
        let request = Request {
            pixels: &whole,
            width: 64,
            height: 64,
            prompt: prompts[1],
            negative: prompts[0],
            guidance: 6.0,
            sampler,
            schedule: &schedule,
            noise: &noise,
            step_seed: 0,
            control: Some((&whole, &weights)),
            tiles: &Tiles::one(),
        };
        let mut steps = Vec::new();
        let mut watch = |p: Progress| {
            if p.part == Part::Predict {
                steps.push(p.done);
            }
            ControlFlow::Continue(())
        };
        let networks = Prompted::new(&model, ops.clone(), &request).unwrap();
        let got = latents(&networks, &request, &mut watch).unwrap();
        close(name, &got, &last(&reference[&format!("loop.{name}.latents")], [4, 8, 8]), LOOP);
        assert_eq!(steps, [0, 1, 2, 3, 4, 5, 6, 7]);

        let mut stop = |p: Progress| if p.done == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let stopped = run(&networks, &request, &mut stop);
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
    let unet = Unet::load(&ops, &Weights::new(&file, prefixes[0], Network::Unet), Heads::Width(16)).unwrap();
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
    let first = Weights::new(&file, "conditioner.embedders.0.transformer.", Network::Clip);
    let first = Clip::load(&ops, &first, Activation::QuickGelu, Heads::Count(4)).unwrap();
    let got = ops.download(&first.encode(&ops, &ids(49407), 1, false).unwrap().hidden).unwrap();
    close("CLIP-L", &got, &reference["text.first"], 2e-5);
    let second = Weights::new(&file, "conditioner.embedders.1.model.", Network::OpenClip);
    let second = Clip::load(&ops, &second, Activation::Gelu, Heads::Count(6)).unwrap();
    let encoded = second.encode(&ops, &ids(0), 1, false).unwrap();
    close("OpenCLIP-G", &ops.download(&encoded.hidden).unwrap(), &reference["text.second"], 2e-5);
    close("pooled", &encoded.pooled.unwrap(), &reference["text.pooled"], 2e-5);
}

/// What the prediction of tiles is checked on: 64 x 256 pixels, three tiles of 16 x 8 latents.
const SHIFTS: [[usize; 2]; 7] = [[0, 0], [5, 0], [8, 0], [2, 0], [7, 0], [1, 0], [4, 0]];

#[test]
fn three_tiles_with_a_moving_grid_end_where_a_loop_over_diffusers_networks_ends() {
    let (ops, reference) = (Cpu::default(), reference("sd15"));
    let (model, _folder) = model(&ops, "sd15", Heads::Count(8), 0.18215);
    let picture: Vec<f32> = signal("wide", 3 * 64 * 256, 1.0).iter().map(|v| (v / 4.0 + 0.5).clamp(0.0, 1.0)).collect();
    let picture = last(&picture, [3, 64, 256]);
    let whole = Whole { pixels: &picture, width: 256 };
    let mut schedule = Schedule::karras(18, 7).unwrap();
    schedule.times.clone_from(&reference["loop.tiles.timesteps"]);
    let tiles = Tiles { side: 16, overlap: 4, shifts: SHIFTS.to_vec(), wrap: false };
    let mut request = Request {
        pixels: &whole,
        width: 256,
        height: 64,
        prompt: &conditioning("context", 32, None),
        negative: &conditioning("negative", 32, None),
        guidance: 6.0,
        sampler: Sampler::Dpmpp2m,
        schedule: &schedule,
        noise: &last(&signal("wide noise", 4 * 8 * 32, 1.0), [4, 8, 32]),
        step_seed: 0,
        control: Some((&whole, &control_weights(13, 0.6, 0.825))),
        tiles: &tiles,
    };
    let mut predictions = 0;
    let mut count = |p: Progress| {
        predictions += usize::from(p.part == Part::Predict && p.done < p.of);
        ControlFlow::Continue(())
    };
    let networks = Prompted::new(&model, ops, &request).unwrap();
    let tiled = latents(&networks, &request, &mut count).unwrap();
    assert_eq!(predictions, 21);
    close("three tiles", &tiled, &last(&reference["loop.tiles.latents"], [4, 8, 32]), LOOP);

    // The largest step across the borders of a grid that does not move is no larger than elsewhere.
    let unmoved = Tiles { shifts: Vec::new(), ..tiles.clone() };
    request.tiles = &unmoved;
    let still = latents(&networks, &request, &mut |_| ControlFlow::Continue(())).unwrap();
    let borders = [12, 16, 28];
    let elsewhere: Vec<usize> = (1..32).filter(|x| !borders.contains(x)).collect();
    let largest = steps_across(&still, &elsewhere);
    assert!(steps_across(&still, &borders) <= largest);

    // Nor is that across the seam of a canvas that wraps.
    let around = Tiles { wrap: true, ..unmoved.clone() };
    request.tiles = &around;
    let wrapped = latents(&networks, &request, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(steps_across(&wrapped, &[0]) <= steps_across(&wrapped, &elsewhere));
}

/// The largest difference of latents `[8, 32, 4]` between some columns and those to the left of them.
fn steps_across(latents: &[f32], columns: &[usize]) -> f32 {
    let at = |y: usize, x: usize, c: usize| latents[(y * 32 + x % 32) * 4 + c];
    let step = |x: usize| (0..32).map(move |i| (at(i / 4, x, i % 4) - at(i / 4, x + 31, i % 4)).abs());
    columns.iter().flat_map(|&x| step(x)).fold(0f32, f32::max)
}

/// `[height, width, channels]`, moved to the right by so many columns; what leaves comes in on the left.
fn moved(values: &[f32], width: usize, by: usize, channels: usize) -> Vec<f32> {
    let place = |i: usize| {
        let (y, x) = (i / channels / width, i / channels % width);
        (y * width + (x + width - by) % width) * channels + i % channels
    };
    (0..values.len()).map(|i| values[place(i)]).collect()
}

#[test]
fn on_a_canvas_that_wraps_no_place_is_special() {
    let ops = Cpu::default();
    let (model, _folder) = model(&ops, "sd15", Heads::Count(8), 0.18215);
    let schedule = Schedule::karras(6, 2).unwrap();
    let [text, none] = [conditioning("context", 32, None), conditioning("negative", 32, None)];
    let picture: Vec<f32> =
        signal("around", 64 * 256 * 3, 1.0).iter().map(|v| (v / 4.0 + 0.5).clamp(0.0, 1.0)).collect();
    let noise = signal("noise around", 8 * 32 * 4, 1.0);
    let made = |columns: usize| {
        let picture = moved(&picture, 256, 8 * columns, 3);
        let whole = Whole { pixels: &picture, width: 256 };
        let request = Request {
            pixels: &whole,
            width: 256,
            height: 64,
            prompt: &text,
            negative: &none,
            guidance: 1.0,
            sampler: Sampler::Dpmpp2m,
            schedule: &schedule,
            noise: &moved(&noise, 32, columns, 4),
            step_seed: 0,
            control: Some((&whole, &control_weights(13, 0.6, 0.825))),
            tiles: &Tiles { side: 16, overlap: 4, shifts: vec![[3 + columns, 0], [9 + columns, 0]], wrap: true },
        };
        let networks = Prompted::new(&model, ops.clone(), &request).unwrap();
        run(&networks, &request, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    // By half, where the VAE's own tiles come to lie on each other.
    close("moved by half", &made(16), &moved(&made(0), 256, 128, 3), 1e-4);
}

#[test]
fn pictures_of_any_size_come_out_whole_and_in_order() {
    let ops = Cpu::default();
    let (model, _folder) = model(&ops, "sd15", Heads::Count(8), 0.18215);
    let schedule = Schedule::karras(4, 1).unwrap();
    let [text, none] = [conditioning("context", 32, None), conditioning("negative", 32, None)];
    for (width, height) in [(1, 1), (70, 65), (3, 130)] {
        let picture = vec![0.5; width * height * 3];
        let whole = Whole { pixels: &picture, width };
        let [down, across] = canvas(height, width, false);
        let request = Request {
            pixels: &whole,
            width,
            height,
            prompt: &text,
            negative: &none,
            guidance: 1.0,
            sampler: Sampler::Euler,
            schedule: &schedule,
            noise: &signal("n", down * across * 4, 1.0),
            step_seed: 0,
            control: None,
            tiles: &Tiles { side: 8, overlap: 2, shifts: Vec::new(), wrap: false },
        };
        let networks = Prompted::new(&model, ops.clone(), &request).unwrap();
        let result = run(&networks, &request, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(result.len(), picture.len());
        assert!(result.iter().all(|v| (0.0..=1.0).contains(v)));
    }
}
