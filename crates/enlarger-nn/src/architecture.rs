//! What a set of arrays is, told from their names and shapes, so that any community file of a supported kind just
//! loads.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::{
    error::NnError,
    spec::{Activation, Architecture},
    tensor::{StateDict, Tensor},
    weights,
};

/// Names the architecture and gives the arrays its canonical names (those of BasicSR). Every array is one that the
/// architecture computes with, and finite.
///
/// # Errors
/// [`NnError::Architecture`] with the likely name of an unsupported network, [`NnError::Weights`] if arrays of a
/// supported one are missing, or there are others.
pub fn detect(raw: StateDict) -> Result<(Architecture, StateDict), NnError> {
    let mut named = canonical(raw)?;
    fold_plus(&mut named)?;
    let architecture = if named.0.contains_key("conv_first.weight") { rrdbnet(&named)? } else { compact(&named)? };
    let used = arrays(&architecture, &named);
    let unused: Vec<&str> = named.0.keys().filter(|name| !used.contains(*name)).map(String::as_str).collect();
    if !unused.is_empty() {
        return Err(weights::unused(&unused));
    }
    if let Some((name, _)) = named.0.par_iter().find_first(|(_, tensor)| !is_finite(&tensor.data)) {
        return Err(NnError::Weights(format!(
            "{name} has values that are infinite or not a number; the file is damaged"
        )));
    }
    Ok((architecture, named))
}

/// The names of the arrays that an architecture computes with.
fn arrays(architecture: &Architecture, dict: &StateDict) -> BTreeSet<String> {
    let mut layers: Vec<String> = Vec::new();
    let mut slopes = 0;
    match *architecture {
        Architecture::RrdbNet { blocks, .. } => {
            layers.extend(["conv_first", "conv_body", "conv_hr", "conv_last"].map(str::to_owned));
            layers.extend((1..=doublings(dict)).map(|i| format!("conv_up{i}")));
            for (block, dense) in (0..blocks).flat_map(|block| (1..=3).map(move |dense| (block, dense))) {
                layers.extend((1..=5).map(|k| format!("body.{block}.rdb{dense}.conv{k}")));
            }
        }
        Architecture::Compact { convs, activation, .. } => {
            layers.extend((0..convs + 2).map(|i| format!("body.{}", 2 * i)));
            slopes = if activation == Activation::Prelu { convs + 1 } else { 0 };
        }
    }
    let of_layer = layers.iter().flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")]);
    of_layer.chain((0..slopes).map(|i| format!("body.{}.weight", 2 * i + 1))).collect()
}

/// No exponent of all ones; the largest of them is found without a branch.
fn is_finite(values: &[f32]) -> bool {
    values.iter().fold(0, |most, value| most.max(value.to_bits() << 1)) < f32::INFINITY.to_bits() << 1
}

/// Turns ESRGAN+ (Rakotonirina and Rasoanaivo 2020, "ESRGAN+: Further Improving ESRGAN") into ESRGAN. Its dense blocks have
/// two sums more, `x2 + conv1x1(x)` in the place of x2 and `x4 + x2` in that of x4. Both are linear in what convolutions
/// read already, and neither has a bias, so they are the same network with other weights: what a convolution does
/// to the new x2, it does to the old one and, through `conv1x1`, to x.
fn fold_plus(dict: &mut StateDict) -> Result<(), NnError> {
    const NAME: &str = ".conv1x1.weight";
    let names: Vec<String> = dict.0.keys().filter(|name| name.ends_with(NAME)).cloned().collect();
    for name in names {
        let Some(point) = dict.0.remove(&name) else { continue };
        let block = name.trim_end_matches(NAME);
        let [growth, features, 1, 1] = point.shape[..] else {
            return Err(NnError::Weights(format!("{name} has shape {:?}, and [.., .., 1, 1] is needed", point.shape)));
        };
        for k in 3..=5 {
            let name = format!("{block}.conv{k}.weight");
            let Some(conv) = dict.0.get_mut(&name) else { return Err(NnError::Weights(format!("{name} is missing"))) };
            let inputs = features + (k - 1) * growth;
            if conv.shape.len() != 4
                || conv.shape[1..] != [inputs, 3, 3]
                || conv.data.len() != conv.shape[0] * inputs * 9
            {
                return Err(NnError::Weights(format!(
                    "{name} has shape {:?}, and reads {inputs} channels",
                    conv.shape
                )));
            }
            conv.data.par_chunks_exact_mut(inputs * 9).for_each(|kernels| {
                let (x, grown) = kernels.split_at_mut(features * 9);
                let (x2, x4) = (growth * 9..2 * growth * 9, 3 * growth * 9..4 * growth * 9);
                if k == 5 {
                    let (before, after) = grown.split_at_mut(x4.start);
                    before[x2.clone()].iter_mut().zip(&after[..growth * 9]).for_each(|(x2, x4)| *x2 += x4);
                }
                for (kernel, weights) in grown[x2].chunks_exact(9).zip(point.data.chunks_exact(features)) {
                    for (x, weight) in x.chunks_exact_mut(9).zip(weights) {
                        x.iter_mut().zip(kernel).for_each(|(x, kernel)| *x += weight * kernel);
                    }
                }
            });
        }
    }
    Ok(())
}

/// Renames whatever naming the file came with.
fn canonical(raw: StateDict) -> Result<StateDict, NnError> {
    let has = |name: &str| raw.0.contains_key(name);
    if has("conv_first.weight") && raw.0.keys().any(|k| k.starts_with("RRDB_trunk.")) {
        return renamed(raw, from_trunk);
    }
    if has("model.0.weight") && raw.0.keys().any(|k| k.contains(".RDB1.conv1.0.")) {
        return from_esrgan(raw);
    }
    if (has("conv_first.weight") && has("body.0.rdb1.conv1.weight")) || is_compact(&raw) {
        return Ok(raw);
    }
    let likely = likely(raw.0.keys().map(String::as_str));
    Err(unsupported(likely.unwrap_or("no network that enlarger knows")))
}

/// The error for a network of another kind.
pub(crate) fn unsupported(likely: &str) -> NnError {
    NnError::Architecture(format!(
        "the weights look like {likely}; ESRGAN (RRDBNet) and Compact (SRVGGNet) networks are supported"
    ))
}

fn is_compact(dict: &StateDict) -> bool {
    let convolution = |name| dict.0.get(name).is_some_and(|t: &Tensor| t.shape.len() == 4 && t.shape[2..] == [3, 3]);
    convolution("body.0.weight") && convolution("body.2.weight")
}

fn renamed(raw: StateDict, name: impl Fn(&str) -> String) -> Result<StateDict, NnError> {
    let mut dict = StateDict::default();
    for (old, tensor) in raw.0 {
        let new = name(&old);
        if dict.0.insert(new.clone(), tensor).is_some() {
            return Err(NnError::Weights(format!("{new} is there twice, under different names")));
        }
    }
    Ok(dict)
}

/// `RRDB_trunk.0.RDB1.conv1.weight`, `trunk_conv`, `upconv1`, `HRconv`: the first PyTorch release of ESRGAN.
fn from_trunk(name: &str) -> String {
    name.replace("RRDB_trunk.", "body.")
        .replace(".RDB", ".rdb")
        .replace("trunk_conv.", "conv_body.")
        .replace("upconv", "conv_up")
        .replace("HRconv.", "conv_hr.")
}

/// `model.0`, `model.1.sub.0.RDB1.conv1.0.weight`, then numbered layers: the training code of old ESRGAN.
fn from_esrgan(raw: StateDict) -> Result<StateDict, NnError> {
    let sub = |k: &str| k.strip_prefix("model.1.sub.").map(str::to_owned);
    let blocks = raw.0.keys().filter_map(|k| sub(k)?.split('.').next()?.parse::<usize>().ok()).max().unwrap_or(0);
    // Behind the blocks (numbered `blocks` is the trunk's last convolution) come an upsampling convolution per
    // doubling, one more, and the last, in this order, whatever numbers the activations between them take.
    let mut numbers: Vec<usize> = raw
        .0
        .keys()
        .filter_map(|k| k.strip_prefix("model.")?.strip_suffix(".weight")?.parse().ok())
        .filter(|&n| n > 1)
        .collect();
    numbers.sort_unstable();
    if numbers.len() < 2 {
        return Err(NnError::Weights("the layers after the trunk are missing".into()));
    }
    let tail: BTreeMap<usize, String> = numbers
        .iter()
        .enumerate()
        .map(|(i, &n)| {
            let name = match numbers.len() - 1 - i {
                0 => "conv_last".to_owned(),
                1 => "conv_hr".to_owned(),
                _ => format!("conv_up{}", i + 1),
            };
            (n, name)
        })
        .collect();
    renamed(raw, |k| {
        if let Some(rest) = sub(k) {
            if let Some(part) = rest.strip_prefix(&format!("{blocks}.")) {
                return format!("conv_body.{part}");
            }
            return format!(
                "body.{}",
                rest.replace(".RDB", ".rdb").replace(".0.weight", ".weight").replace(".0.bias", ".bias")
            );
        }
        let numbered = k.strip_prefix("model.").and_then(|rest| rest.split_once('.'));
        match numbered.and_then(|(n, part)| Some((n.parse::<usize>().ok()?, part))) {
            Some((0, part)) => format!("conv_first.{part}"),
            Some((n, part)) if tail.contains_key(&n) => format!("{}.{part}", tail[&n]),
            _ => k.to_owned(),
        }
    })
}

fn rrdbnet(dict: &StateDict) -> Result<Architecture, NnError> {
    let first = shape(dict, "conv_first.weight")?;
    let last = shape(dict, "conv_last.weight")?;
    let growth = shape(dict, "body.0.rdb1.conv1.weight")?[0];
    let blocks = (0..).take_while(|b| dict.0.contains_key(&format!("body.{b}.rdb1.conv1.weight"))).count();
    let ups = doublings(dict);
    let (seen, channels_out) = (first[1], last[0]);
    // Unshuffling by r turns c channels into c * r * r. Colours in and out are equal in all networks of this kind.
    let unshuffle = (1..=4).find(|r| channels_out * r * r == seen).ok_or_else(|| {
        NnError::Weights(format!("the first layer reads {seen} channels and the last makes {channels_out}"))
    })?;
    let up = 1usize << ups;
    if !matches!(channels_out, 1 | 3) || !up.is_multiple_of(unshuffle) {
        return Err(NnError::Architecture(format!(
            "the ESRGAN network makes {channels_out} channels at {up}/{unshuffle} times the size; 1 or 3 channels at a whole factor are supported"
        )));
    }
    Ok(Architecture::RrdbNet {
        scale: (up / unshuffle) as u32,
        channels_in: channels_out,
        channels_out,
        features: first[0],
        blocks,
        growth,
    })
}

fn doublings(dict: &StateDict) -> usize {
    (1..=4).take_while(|i| dict.0.contains_key(&format!("conv_up{i}.weight"))).count()
}

fn compact(dict: &StateDict) -> Result<Architecture, NnError> {
    let numbers: Vec<usize> = dict
        .0
        .iter()
        .filter(|(_, t)| t.shape.len() == 4)
        .filter_map(|(k, _)| k.strip_prefix("body.")?.strip_suffix(".weight")?.parse().ok())
        .collect();
    let last = numbers.iter().copied().max().unwrap_or_default();
    let (first, end) = (shape(dict, "body.0.weight")?, shape(dict, &format!("body.{last}.weight"))?);
    let channels_in = first[1];
    let square = end[0] / channels_in.max(1);
    let scale = (1..=8).find(|s| s * s == square && square * channels_in == end[0]);
    let (Some(scale), true) = (scale, matches!(channels_in, 1 | 3) && numbers.len() >= 2) else {
        return Err(NnError::Architecture(format!(
            "the Compact network makes {} channels of {channels_in}, which is no whole factor from 1 to 8",
            end[0]
        )));
    };
    let learned = dict.0.get("body.1.weight").is_some_and(|t| t.shape.len() == 1);
    Ok(Architecture::Compact {
        scale: scale as u32,
        channels_in,
        channels_out: channels_in,
        features: first[0],
        convs: numbers.len() - 2,
        activation: if learned { Activation::Prelu } else { Activation::Relu },
    })
}

/// A convolution's shape: four sizes, none of them 0.
fn shape<'a>(dict: &'a StateDict, name: &str) -> Result<&'a [usize], NnError> {
    match dict.0.get(name) {
        Some(t) if t.shape.len() == 4 && !t.shape.contains(&0) => Ok(&t.shape),
        Some(t) => Err(NnError::Weights(format!("{name} has shape {:?}, and a convolution has four sizes", t.shape))),
        None => Err(NnError::Weights(format!("{name} is missing"))),
    }
}

/// The likely name of an unsupported network, from telling parts of its arrays' names.
pub(crate) fn likely<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    const SIGNS: [(&str, &str); 12] = [
        ("relative_position_index_OCA", "HAT"),
        ("overlap_attn", "HAT"),
        ("attn.rpe_biases", "DAT"),
        ("blocks.0.attn.attns", "DAT"),
        ("relative_position_bias_table", "SwinIR or Swin2SR"),
        ("residual_layer", "OmniSR"),
        ("block_1.c1_r", "SPAN"),
        ("sk.weight", "SPAN"),
        ("gated_cnn", "RealPLKSR or MoSR"),
        ("feats.0.weight", "PLKSR or a relative"),
        ("unet1.conv1", "Real-CUGAN"),
        ("double_blocks", "a diffusion model"),
    ];
    SIGNS.iter().find(|(sign, _)| names.clone().any(|name| name.contains(sign))).map(|(_, likely)| *likely)
}
