//! The networks give what diffusers and transformers give with the same weights.

mod common;

use common::{close, download, file, reference, signal, upload};
use enlarger_diffusion::{
    clip::{CHUNK, Clip, Token},
    cpu::Cpu,
    layers::Heads,
    lora::{Lora, Target},
    ops::{Activation, Ops},
    unet::{Context, ControlNet, Unet, heads},
    vae::Vae,
    weights::{Part, Weights},
};
use safetensors::Dtype;

/// Relative to the largest value: 32-bit networks whose sums are in another order.
const NETS: f32 = 2e-5;
const IDS: [u32; 7] = [320, 2368, 267, 1215, 49405, 7, 2368];

fn chunk(pad: u32) -> Vec<Token> {
    let ids = [49406].into_iter().chain(IDS).chain([49407]).chain(std::iter::repeat(pad));
    ids.take(CHUNK).map(Token::Word).collect()
}

fn hint() -> Vec<f32> {
    signal("hint", 3 * 64 * 64, 1.0).iter().map(|v| (v / 4.0 + 0.5).clamp(0.0, 1.0)).collect()
}

#[test]
fn the_unet_predicts_what_diffusers_predicts() {
    let (ops, folder, reference) = (Cpu::default(), tempfile::tempdir().unwrap(), reference("sd15"));
    let file = file(folder.path(), "sd15", &["model.diffusion_model."], Dtype::F16);
    let weights = Weights::new(&file, "model.diffusion_model.", Part::Unet);
    let unet = Unet::load(&ops, &weights, heads(&weights)).unwrap();
    let x = upload(&ops, &signal("x", 4 * 8 * 16, 1.0), [4, 8, 16]);
    let text = ops.upload([1, 1, 77, 32], &signal("context", 77 * 32, 1.0)).unwrap();
    let context = Context { text, added: None };
    for step in [1, 500, 981] {
        let got = download(&ops, &unet.run(&ops, &x, step as f32, &context, None).unwrap());
        close(&format!("step {step}"), &got, &reference[&format!("unet.{step}")], NETS);
    }
}

#[test]
fn the_control_net_gives_what_diffusers_gives() {
    let (ops, folder, reference) = (Cpu::default(), tempfile::tempdir().unwrap(), reference("sd15"));
    let file = file(folder.path(), "sd15", &["control_model."], Dtype::F32);
    let weights = Weights::new(&file, "control_model.", Part::Unet);
    let control = ControlNet::load(&ops, &weights, heads(&weights)).unwrap();
    let x = upload(&ops, &signal("small", 4 * 8 * 8, 1.0), [4, 8, 8]);
    let text = ops.upload([1, 1, 77, 32], &signal("context", 77 * 32, 1.0)).unwrap();
    let hint = control.hint(&ops, &upload(&ops, &hint(), [3, 64, 64])).unwrap();
    let residuals = control.run(&ops, &x, 500.0, &Context { text, added: None }, &hint).unwrap();
    assert_eq!(residuals.tensors().len(), 13);
    for (i, residual) in residuals.tensors().iter().enumerate() {
        close(&format!("residual {i}"), &download(&ops, residual), &reference[&format!("control.{i:02}")], NETS);
    }
}

#[test]
fn a_union_control_net_follows_a_tile_as_diffusers_does_alone_and_with_guidance() {
    let (ops, folder, reference) = (Cpu::default(), tempfile::tempdir().unwrap(), reference("union"));
    let weights = Weights::new(&file(folder.path(), "union", &[""], Dtype::F16), "", Part::Unet);
    let control = ControlNet::load(&ops, &weights, Heads::Width(16)).unwrap();
    let (small, text) = (signal("small", 4 * 8 * 8, 1.0), signal("context", 77 * 80, 1.0));
    let hint = control.hint(&ops, &upload(&ops, &hint(), [3, 64, 64])).unwrap();
    let residuals = |texts: &[Vec<f32>]| {
        let n = texts.len();
        let pooled = ops.upload([n, 1, 1, 48], &signal("pooled", 48, 1.0).repeat(n)).unwrap();
        let context = Context {
            text: ops.upload([n, 1, 77, 80], &texts.concat()).unwrap(),
            added: Some((pooled, [1024.0, 768.0, 0.0, 16.0, 1024.0, 768.0])),
        };
        let x = upload(&ops, &small.repeat(n), [4, 8, 8]);
        let residuals = control.run(&ops, &x, 500.0, &context, &hint).unwrap();
        residuals.tensors().iter().map(|residual| download(&ops, residual)).collect::<Vec<_>>()
    };
    let alone = residuals(std::slice::from_ref(&text));
    assert_eq!(alone.len(), 10);
    for (i, residual) in alone.iter().enumerate() {
        close(&format!("residual {i}"), residual, &reference[&format!("control.{i:02}")], NETS);
    }
    let guided = residuals(&[signal("negative", 77 * 80, 1.0), text]);
    close("with guidance", &guided[9], &reference["guided"], NETS);
}

#[test]
fn the_vae_encodes_and_decodes_as_diffusers_does() {
    let (ops, folder, reference) = (Cpu::default(), tempfile::tempdir().unwrap(), reference("sd15"));
    let file = file(folder.path(), "sd15", &["first_stage_model."], Dtype::F16);
    let vae = Vae::load(&ops, &Weights::new(&file, "first_stage_model.", Part::Vae), 1.0).unwrap();
    let pixels = upload(&ops, &signal("pixels", 3 * 32 * 48, 0.5), [3, 32, 48]);
    close("mean", &download(&ops, &vae.encode(&ops, &pixels).unwrap()), &reference["vae.mean"], NETS);
    let latents = upload(&ops, &signal("latents", 4 * 4 * 6, 1.0), [4, 4, 6]);
    close("decode", &download(&ops, &vae.decode(&ops, &latents).unwrap()), &reference["vae.decode"], NETS);
}

#[test]
fn text_encodes_as_transformers_does_it_with_and_without_the_last_layer() {
    let (ops, folder, reference) = (Cpu::default(), tempfile::tempdir().unwrap(), reference("sd15"));
    let prefix = "cond_stage_model.transformer.text_model.";
    let file = file(folder.path(), "sd15", &[prefix], Dtype::F16);
    let weights = Weights::new(&file, prefix, Part::Clip);
    let clip = Clip::load(&ops, &weights, Activation::QuickGelu, Heads::Count(4)).unwrap();
    for skip in [0, 1] {
        let encoded = clip.encode(&ops, &chunk(49407), skip, true).unwrap();
        assert!(encoded.pooled.is_none());
        let got = ops.download(&encoded.hidden).unwrap();
        close(&format!("{skip} layers left out"), &got, &reference[&format!("text.{}", skip + 1)], NETS);
    }
}

#[test]
fn a_lora_changes_attention_and_convolutions_of_unet_and_text() {
    let (ops, folder, reference) = (Cpu::default(), tempfile::tempdir().unwrap(), reference("sd15"));
    let prefix = "cond_stage_model.transformer.text_model.";
    let checkpoint = file(folder.path(), "sd15", &["model.diffusion_model.", prefix], Dtype::F32);
    let mut arrays: Vec<_> = common::keys("sd15", &["lora_"])
        .into_iter()
        .map(|(name, shape)| (name.clone(), shape.clone(), common::weight(&name, &shape)))
        .collect();
    for i in 0..arrays.len() {
        if let Some(module) = arrays[i].0.strip_suffix(".lora_down.weight") {
            arrays.push((format!("{module}.alpha"), vec![], vec![2.0]));
        }
    }
    let path = folder.path().join("lora.safetensors");
    common::write(&path, &arrays, Dtype::F32);
    let lora = Lora::new(&std::sync::Arc::new(enlarger_diffusion::file::Safetensors::open(&path).unwrap())).unwrap();

    let mut weights = Weights::new(&checkpoint, "model.diffusion_model.", Part::Unet);
    let mut text = Weights::new(&checkpoint, prefix, Part::Clip);
    let merged =
        lora.merge(&mut weights, Target::Unet, 0.7).unwrap() + lora.merge(&mut text, Target::Text, 0.7).unwrap();
    assert_eq!(merged, lora.layers(), "every layer of the file is used");

    let unet = Unet::load(&ops, &weights, heads(&weights)).unwrap();
    let x = upload(&ops, &signal("x", 4 * 8 * 16, 1.0), [4, 8, 16]);
    let context = ops.upload([1, 1, 77, 32], &signal("context", 77 * 32, 1.0)).unwrap();
    let got = unet.run(&ops, &x, 500.0, &Context { text: context, added: None }, None).unwrap();
    close("unet", &download(&ops, &got), &reference["lora.unet"], NETS);
    let clip = Clip::load(&ops, &text, Activation::QuickGelu, Heads::Count(4)).unwrap();
    let got = clip.encode(&ops, &chunk(49407), 0, true).unwrap().hidden;
    close("text", &ops.download(&got).unwrap(), &reference["lora.text"], NETS);
}
