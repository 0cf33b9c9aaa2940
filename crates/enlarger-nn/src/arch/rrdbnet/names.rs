//! The namings that ESRGAN's weights come with, and ESRGAN+.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::{error::NnError, tensor::StateDict};

/// Whether arrays are named as in the first PyTorch release of ESRGAN.
pub fn is_trunk(dict: &StateDict) -> bool {
    dict.0.contains_key("conv_first.weight") && dict.0.keys().any(|name| name.starts_with("RRDB_trunk."))
}

/// Whether arrays are named as by the training code of old ESRGAN.
pub fn is_esrgan(dict: &StateDict) -> bool {
    dict.0.contains_key("model.0.weight") && dict.0.keys().any(|name| name.contains(".RDB1.conv1.0."))
}

/// Whether arrays are named as in BasicSR, which are the canonical names.
pub fn is_canonical(dict: &StateDict) -> bool {
    dict.0.contains_key("conv_first.weight") && dict.0.contains_key("body.0.rdb1.conv1.weight")
}

/// Gives arrays their canonical names, from any of the namings.
///
/// # Errors
/// [`NnError::Weights`] if two have the same name, or the layers after the trunk are missing.
pub fn canonical(raw: StateDict) -> Result<StateDict, NnError> {
    if is_trunk(&raw) {
        return renamed(raw, from_trunk);
    }
    if is_esrgan(&raw) { from_esrgan(raw) } else { Ok(raw) }
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
    // Behind the blocks (numbered `blocks` is the trunk's last convolution) come a convolution per upsampling,
    // one more, and the last, in this order, whatever numbers the activations between them take.
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

/// Turns ESRGAN+ (Rakotonirina and Rasoanaivo 2020, "ESRGAN+: Further Improving ESRGAN") into ESRGAN. Its dense blocks have
/// two sums more, `x2 + conv1x1(x)` in the place of x2 and `x4 + x2` in that of x4. Both are linear in what convolutions
/// read already, and neither has a bias, so they are the same network with other weights: what a convolution does
/// to the new x2, it does to the old one and, through `conv1x1`, to x.
///
/// # Errors
/// [`NnError::Weights`] if arrays are missing or have shapes that do not fit.
pub fn fold_plus(dict: &mut StateDict) -> Result<(), NnError> {
    const NAME: &str = ".conv1x1.weight";
    let names: Vec<String> = dict.0.keys().filter(|name| name.ends_with(NAME)).cloned().collect();
    for name in names {
        let Some(point) = dict.0.remove(&name) else { continue };
        let block = name.trim_end_matches(NAME);
        let [growth, features, 1, 1] = point.shape[..] else {
            return Err(NnError::Weights(format!("{name} has shape {:?}; expected [.., .., 1, 1]", point.shape)));
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
                let (x, dense) = kernels.split_at_mut(features * 9);
                let (x2, x4) = (growth * 9..2 * growth * 9, 3 * growth * 9..4 * growth * 9);
                if k == 5 {
                    let (before, after) = dense.split_at_mut(x4.start);
                    before[x2.clone()].iter_mut().zip(&after[..growth * 9]).for_each(|(x2, x4)| *x2 += x4);
                }
                for (kernel, weights) in dense[x2].chunks_exact(9).zip(point.data.chunks_exact(features)) {
                    for (x, weight) in x.chunks_exact_mut(9).zip(weights) {
                        x.iter_mut().zip(kernel).for_each(|(x, kernel)| *x += weight * kernel);
                    }
                }
            });
        }
    }
    Ok(())
}
