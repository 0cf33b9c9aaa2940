//! What a set of arrays is, told from their names and shapes, so that any community file of a supported kind just
//! loads.

use std::collections::BTreeMap;

use crate::{
    error::NnError,
    spec::{Activation, Architecture},
    tensor::StateDict,
};

/// Names the architecture and gives the arrays its canonical names (those of BasicSR).
///
/// # Errors
/// [`NnError::Architecture`] with the likely name of an unsupported network, [`NnError::Weights`] if arrays of a
/// supported one are missing.
pub fn detect(raw: StateDict) -> Result<(Architecture, StateDict), NnError> {
    let named = canonical(raw)?;
    let architecture = if named.0.contains_key("conv_first.weight") { rrdbnet(&named)? } else { compact(&named)? };
    Ok((architecture, named))
}

/// Renames whatever naming the file came with.
fn canonical(raw: StateDict) -> Result<StateDict, NnError> {
    let has = |name: &str| raw.0.contains_key(name);
    if raw.0.keys().any(|k| k.starts_with("ncnn.")) {
        return from_order(raw);
    }
    if has("conv_first.weight") && raw.0.keys().any(|k| k.starts_with("RRDB_trunk.")) {
        return Ok(renamed(raw, from_trunk));
    }
    if has("model.0.weight") && raw.0.keys().any(|k| k.contains(".RDB1.conv1.0.")) {
        return from_esrgan(raw);
    }
    if (has("conv_first.weight") && has("body.0.rdb1.conv1.weight")) || is_compact(&raw) {
        return Ok(raw);
    }
    Err(NnError::Architecture(format!(
        "the weights look like {}; ESRGAN (RRDBNet) and Compact (SRVGGNet) networks are supported",
        guess(&raw)
    )))
}

fn is_compact(dict: &StateDict) -> bool {
    dict.0.get("body.0.weight").is_some_and(|t| t.shape.len() == 4 && t.shape[2..] == [3, 3])
        && dict.0.keys().all(|k| k.starts_with("body."))
}

fn renamed(raw: StateDict, name: impl Fn(&str) -> String) -> StateDict {
    StateDict(raw.0.into_iter().map(|(k, v)| (name(&k), v)).collect())
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
    Ok(renamed(raw, |k| {
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
    }))
}

/// ncnn keeps the order of layers and loses their names.
fn from_order(raw: StateDict) -> Result<StateDict, NnError> {
    let slopes = raw.0.keys().filter(|k| k.ends_with(".slope")).count();
    let convolutions = raw.0.keys().filter(|k| k.ends_with(".weight")).count();
    let names: Vec<String> = if slopes > 0 {
        (0..slopes + convolutions).map(|i| format!("body.{i}")).collect()
    } else {
        // first, 15 per block, body, one per doubling, high, last
        let rest = |ups: usize| convolutions.checked_sub(4 + ups).filter(|n| n % 15 == 0).map(|n| (n / 15, ups));
        let Some((blocks, ups)) = [2, 1, 3, 0].into_iter().find_map(rest) else {
            return Err(NnError::Architecture(format!(
                "the ncnn network has {convolutions} convolutions in a row, which fits no ESRGAN (RRDBNet)"
            )));
        };
        let mut names = vec!["conv_first".to_owned()];
        for block in 0..blocks {
            for dense in 1..=3 {
                names.extend((1..=5).map(|k| format!("body.{block}.rdb{dense}.conv{k}")));
            }
        }
        names.push("conv_body".into());
        names.extend((1..=ups).map(|i| format!("conv_up{i}")));
        names.extend(["conv_hr".into(), "conv_last".into()]);
        names
    };
    Ok(renamed(raw, |k| {
        let mut parts = k.splitn(3, '.').skip(1);
        let order = parts.next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(usize::MAX);
        let part = parts.next().unwrap_or_default().replace("slope", "weight");
        names.get(order).map_or_else(|| k.to_owned(), |name| format!("{name}.{part}"))
    }))
}

fn rrdbnet(dict: &StateDict) -> Result<Architecture, NnError> {
    let first = shape(dict, "conv_first.weight")?;
    let last = shape(dict, "conv_last.weight")?;
    let growth = shape(dict, "body.0.rdb1.conv1.weight")?[0];
    let blocks = (0..).take_while(|b| dict.0.contains_key(&format!("body.{b}.rdb1.conv1.weight"))).count();
    let ups = (1..=4).take_while(|i| dict.0.contains_key(&format!("conv_up{i}.weight"))).count();
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
fn guess(dict: &StateDict) -> &'static str {
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
    let found = SIGNS.iter().find(|(sign, _)| dict.0.keys().any(|k| k.contains(sign)));
    found.map_or("no network that enlarger knows", |(_, name)| name)
}
