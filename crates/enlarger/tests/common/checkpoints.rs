//! Tiny random files of Stable Diffusion in the layouts that people have on disk, by formula: nothing is committed.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use half::f16;
use sha2::{Digest, Sha256};

/// Names and shapes of a checkpoint of SD 1.5 with a tenth of its channels.
const KEYS: &str = include_str!("../../../enlarger-diffusion/tests/reference/sd15.keys");
/// The same of SDXL, and of a ControlNet for several kinds of pictures.
const SDXL: &str = include_str!("../../../enlarger-diffusion/tests/reference/sdxl.keys");
const UNION: &str = include_str!("../../../enlarger-diffusion/tests/reference/union.keys");
/// Widths of the text of SD 1.x and of SDXL's second encoder, by which files are recognised. The keys have 32 and 48.
const TEXT: usize = 768;
const SECOND_TEXT: usize = 1280;

/// An array: its name, type, shape and bytes.
pub struct Array(pub String, pub &'static str, pub Vec<usize>, pub Vec<u8>);

/// Writes a safetensors file.
pub fn write(path: &Path, arrays: &[Array]) {
    let mut at = 0;
    let mut header = serde_json::Map::new();
    for Array(name, dtype, shape, bytes) in arrays {
        let end = at + bytes.len();
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let header = serde_json::to_vec(&header).expect("plain data");
    fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
    let mut file = BufWriter::new(fs::File::create(path).expect("it can be made"));
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("room");
    file.write_all(&header).expect("room");
    arrays.iter().for_each(|Array(.., bytes)| file.write_all(bytes).expect("room"));
    file.flush().expect("room");
}

/// -1..1: splitmix64 of a hash of the name and the place.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let seed = u64::from_le_bytes(*Sha256::digest(name).first_chunk().expect("32 bytes"));
    (1..=count as u64).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// An array of random weights of 16 bits, as large as a network keeps its values.
fn random(name: &str, shape: Vec<usize>) -> Array {
    let scale = (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
    let value = |u: f32| match (shape.len(), name.ends_with(".weight")) {
        (1, true) => 1.0 + 0.1 * u,
        (1, false) => 0.1 * u,
        _ => u * scale,
    };
    let values = uniform(name, shape.iter().product());
    let bytes = values.flat_map(|u| f16::from_f32(value(u)).to_le_bytes()).collect();
    Array(name.to_owned(), "F16", shape, bytes)
}

/// Arrays of a checkpoint, a ControlNet or a LoRA whose names begin with one of the prefixes.
fn arrays(prefixes: &[&str]) -> Vec<Array> {
    let lines = KEYS.lines().filter(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)));
    // One layer of text is enough.
    let lines = lines.filter(|line| !line.contains("encoder.layers.1.") && !line.contains("encoder.layers.2."));
    let array = |line: &str| {
        let (name, mut shape) = read(line);
        if name.starts_with("cond_stage_model.") {
            shape.iter_mut().filter(|l| **l == 32).for_each(|l| *l = TEXT);
        } else if name.contains("attn2.to_k") || name.contains("attn2.to_v") {
            shape[1] = TEXT;
        }
        with_words(name, shape)
    };
    lines.map(array).collect()
}

/// The same of SDXL.
fn arrays_of_sdxl(keys: &str) -> Vec<Array> {
    // Of two layers of text the last one is left out.
    let further = |line: &str| {
        let layer = |part: &str| line.split_once(part)?.1.split('.').next()?.parse::<usize>().ok();
        layer("text_model.encoder.layers.").or_else(|| layer("resblocks.")).is_some_and(|layer| layer > 1)
    };
    let array = |line: &str| {
        let (name, mut shape) = read(line);
        if name.starts_with("conditioner.embedders.0.") {
            shape.iter_mut().filter(|l| **l == 32).for_each(|l| *l = TEXT);
        } else if name.starts_with("conditioner.embedders.1.") {
            shape.iter_mut().filter(|l| **l == 48 || **l == 3 * 48).for_each(|l| *l = *l / 48 * SECOND_TEXT);
        } else if name.contains("attn2.to_k") || name.contains("attn2.to_v") {
            shape[1] = TEXT + SECOND_TEXT;
        } else if name.contains("label_emb.0.0.weight")
            || name.contains("add_embedding.linear_1.weight") && shape[1] == 144
        {
            shape[1] += SECOND_TEXT - 48;
        }
        with_words(name, shape)
    };
    keys.lines().filter(|line| !line.starts_with("control_model.") && !further(line)).map(array).collect()
}

/// A name and a shape.
fn read(line: &str) -> (&str, Vec<usize>) {
    let (name, shape) = line.split_once(' ').expect("a name and a shape");
    (name, shape.split('x').map(|l| l.parse().expect("a number")).collect())
}

/// A random array. The 49,408 words have 8 bits, with small exponents.
fn with_words(name: &str, shape: Vec<usize>) -> Array {
    if !name.contains("token_embedding") {
        return random(name, shape);
    }
    let byte = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 20) & 0x8f | 0x28) as u8;
    let bytes = (0..shape.iter().product()).map(byte).collect();
    Array(name.to_owned(), "F8_E4M3", shape, bytes)
}

/// A whole checkpoint: UNet, VAE, text encoder.
pub fn checkpoint() -> Vec<Array> {
    arrays(&["model.diffusion_model.", "first_stage_model.", "cond_stage_model."])
}

/// A ControlNet that fits it.
pub fn control() -> Vec<Array> {
    arrays(&["control_model."])
}

/// A whole checkpoint of SDXL.
pub fn checkpoint_of_sdxl() -> Vec<Array> {
    arrays_of_sdxl(SDXL)
}

/// A ControlNet that fits it, for several kinds of pictures.
pub fn union_of_sdxl() -> Vec<Array> {
    arrays_of_sdxl(UNION)
}

/// A LoRA of the UNet's self-attention and convolutions, which do not depend on the text's width.
pub fn lora() -> Vec<Array> {
    let mut arrays = arrays(&["lora_unet_"]);
    arrays.retain(|Array(name, ..)| !name.contains("attn2_to_k") && !name.contains("attn2_to_v"));
    arrays
}

/// The same shapes as files of SDXL have where it counts: told by the width of the text, and of no use otherwise.
pub fn control_of_sdxl() -> Vec<Array> {
    let array = |name: &str, shape: &[usize]| random(name, shape.to_vec());
    vec![
        array("controlnet_cond_embedding.conv_in.weight", &[16, 3, 3, 3]),
        array("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", &[64, 2048]),
    ]
}
