//! Which arrays of a training checkpoint are the network's, and what they are called without its wrappers.

use crate::{
    arch::{first_arrays, likely, not_used, unsupported},
    error::NnError,
};

/// Words under which training code stores a network, the best copy first. Other words are accepted after these.
const WRAPPERS: [&str; 12] = [
    "params_ema",
    "params-ema",
    "g_ema",
    "ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "net_g",
    "netG",
    "generator",
    "net",
];
/// Counters of training code, whatever their shape.
const COUNTERS: [&str; 5] = ["num_batches_tracked", "step", "iter", "epoch", "global_step"];

/// An array as a file lists it, before its values are read.
pub struct Listed {
    /// Its path in the file, joined by dots.
    pub name: String,
    /// Whether it holds whole numbers, which no supported network computes with.
    pub whole: bool,
    pub shape: Vec<usize>,
}

/// The network's arrays: where each is in `listed`, and its name without wrappers. Leaves out counters, the state of
/// optimizers, the discriminator, and worse copies of the network. A file without a supported network passes unchanged,
/// so that [`crate::arch::detect`] can say what it is.
///
/// # Errors
/// [`NnError::Architecture`] with names, if arrays belong to none of these, or with the likely kind, if they reveal it.
pub fn network(listed: &[Listed]) -> Result<Vec<(usize, String)>, NnError> {
    let floats = || listed.iter().enumerate().filter(|(_, array)| !array.whole);
    let mut roots: Vec<&str> = floats().filter_map(|(_, array)| root(&array.name)).collect();
    roots.sort_by_cached_key(|root| rank(root));
    let Some(&best) = roots.first() else {
        return Ok(floats().map(|(at, array)| (at, array.name.clone())).collect());
    };
    if let Some(equal) = roots.get(1).filter(|other| rank(other) == rank(best)) {
        return Err(NnError::Architecture(format!(
            "the file contains several models ({} and {})",
            best.trim_end_matches('.'),
            equal.trim_end_matches('.')
        )));
    }
    let (mut network, mut strange) = (Vec::new(), Vec::new());
    for (at, Listed { name, whole, shape }) in listed.iter().enumerate() {
        let last = name.rsplit('.').next().unwrap_or_default();
        let counts = *whole && (shape.iter().product::<usize>() <= 1 || COUNTERS.contains(&last));
        if counts || name.split('.').any(is_training) {
            continue;
        }
        let owner = roots.iter().filter(|root| name.starts_with(**root)).max_by_key(|root| root.len());
        match owner {
            Some(root) if *root == best && !whole => network.push((at, name[best.len()..].to_owned())),
            Some(root) if *root != best => {}
            _ => strange.push(name.as_str()),
        }
    }
    if strange.is_empty() {
        return Ok(network);
    }
    // The first layer of other networks is often called the same.
    match likely(listed.iter().map(|array| array.name.as_str())) {
        Some(likely) => Err(unsupported(likely)),
        None => Err(not_used(&strange)),
    }
}

/// What stands before a network's first array. A numbered layer is not a wrapper.
fn root(name: &str) -> Option<&str> {
    let root = first_arrays().find_map(|first| name.strip_suffix(first))?;
    let wraps = |word: &str| !word.is_empty() && word.parse::<usize>().is_err();
    (root.is_empty() || root.strip_suffix('.')?.split('.').all(wraps)).then_some(root)
}

fn rank(root: &str) -> Vec<usize> {
    let words = root.split_terminator('.');
    words.map(|word| WRAPPERS.iter().position(|known| *known == word).unwrap_or(WRAPPERS.len())).collect()
}

/// Whether a word of an array's path marks it as used only in training.
fn is_training(word: &str) -> bool {
    let word = word.to_lowercase();
    word.starts_with("optim")
        || ["scheduler", "scaler"].iter().any(|part| word.contains(part))
        || ["discriminator", "netd", "net_d"].contains(&word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(names: &[&str]) -> Vec<Listed> {
        names.iter().map(|name| Listed { name: (*name).into(), whole: false, shape: vec![8, 3, 3, 3] }).collect()
    }

    fn short(names: &[&str]) -> Vec<String> {
        network(&floats(names)).expect("a network").into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn wrappers_are_taken_off_whatever_their_words() {
        for root in ["", "module.", "module.module.", "params-ema.", "netG.module.", "state_dict._orig_mod.", "my_sr."]
        {
            for first in first_arrays() {
                assert_eq!(short(&[&format!("{root}{first}"), &format!("{root}x.bias")]), [first, "x.bias"], "{root}");
            }
        }
    }

    #[test]
    fn the_averaged_copy_is_preferred_and_what_serves_training_is_left_out() {
        let names = [
            "params.conv_first.weight",
            "params_ema.conv_first.weight",
            "optimizer.state.0.exp_avg",
            "net_d.conv0.weight",
            "params.x.bias",
            "params_ema.x.bias",
        ];
        let network = network(&floats(&names)).expect("a network");
        assert_eq!(network, [(1, "conv_first.weight".into()), (5, "x.bias".into())]);
    }

    #[test]
    fn arrays_beside_the_network_are_named() {
        let error = network(&floats(&["params.conv_first.weight", "extra.attention.weight"])).expect_err("refused");
        assert!(error.to_string().contains("extra.attention.weight"), "{error}");
        let error = network(&floats(&["a.conv_first.weight", "b.conv_first.weight"])).expect_err("two of equal rank");
        assert!(error.to_string().contains("(a and b)"), "{error}");
    }

    #[test]
    fn whole_numbers_are_left_out_only_where_they_count() {
        let whole = |name: &str, shape: &[usize]| Listed { name: name.into(), whole: true, shape: shape.to_vec() };
        let with = |array: Listed| {
            let mut listed = floats(&["conv_first.weight"]);
            listed.push(array);
            network(&listed)
        };
        for counter in [whole("version", &[]), whole("bn.num_batches_tracked", &[1]), whole("iter", &[3])] {
            assert_eq!(with(counter).expect("a counter").len(), 1);
        }
        let error = with(whole("window.index", &[4, 4])).expect_err("an index that something looks up");
        assert!(error.to_string().contains("window.index"), "{error}");
    }

    #[test]
    fn another_network_is_named_although_it_begins_alike() {
        let table = "layers.0.attn.relative_position_bias_table";
        let mut listed = floats(&["conv_first.weight", table]);
        listed.push(Listed { name: "layers.0.attn.relative_position_index".into(), whole: true, shape: vec![64, 64] });
        assert!(network(&listed).expect_err("refused").to_string().contains("SwinIR"));
        // Blocks of other networks have a first array of this name too; none of them is taken for the network.
        let blocks = ["body.0.body.0.weight", "body.1.body.0.weight"];
        assert_eq!(short(&blocks), blocks);
    }
}
