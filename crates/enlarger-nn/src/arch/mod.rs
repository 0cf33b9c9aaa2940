//! The architectures: one line each.

mod compact;
mod rrdbnet;
mod unsupported;

use rayon::prelude::*;

pub use compact::{Activation, Compact};
pub use rrdbnet::RrdbNet;

use crate::{
    architecture::{Architecture, Family},
    error::{NnError, shortened},
    graph::Graph,
    tensor::StateDict,
};

/// The first one that recognises a file gets it.
const FAMILIES: &[&dyn Family] = &[&rrdbnet::Family, &compact::Family];

/// Detects the network from the names and shapes of its arrays, and gives them their canonical names. Every array is
/// one that the network computes with, and finite.
///
/// # Errors
/// [`NnError::Architecture`] with the likely name of an unsupported network, or the arrays that a supported one does not
/// use, [`NnError::Weights`] if arrays are missing, [`NnError::Format`] if values are not finite.
pub fn detect(weights: StateDict) -> Result<(Box<dyn Architecture>, StateDict), NnError> {
    let Some(family) = FAMILIES.iter().find(|family| family.recognises(&weights)) else {
        let likely = likely(weights.0.keys().map(String::as_str));
        return Err(unsupported(likely.unwrap_or("no supported architecture")));
    };
    let weights = family.canonical(weights)?;
    let architecture = family.sizes(&weights)?;
    let used = architecture.graph().arrays();
    let unused: Vec<&str> = weights.0.keys().filter(|name| !used.contains(*name)).map(String::as_str).collect();
    if !unused.is_empty() {
        return Err(not_used(&unused));
    }
    if let Some((name, _)) = weights.0.par_iter().find_first(|(_, tensor)| !is_finite(&tensor.data)) {
        return Err(NnError::Format(format!("{name} contains infinite or NaN values; the file is damaged")));
    }
    Ok((architecture, weights))
}

/// Guesses the network of a graph whose arrays have no names. Compare the result with [`Architecture::graph`].
///
/// # Errors
/// [`NnError::Architecture`] if it is none, or its sizes are not supported.
pub(crate) fn detect_graph(graph: &Graph) -> Result<(&'static str, Box<dyn Architecture>), NnError> {
    for family in FAMILIES {
        if let Some(architecture) = family.sizes_of_graph(graph)? {
            return Ok((family.name(), architecture));
        }
    }
    Err(unsupported("no supported architecture"))
}

/// The first array of each network, under all its namings.
pub(crate) fn first_arrays() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.first_arrays().iter().copied())
}

pub(crate) use unsupported::likely;

/// The supported architectures in a sentence: `A, B and C`.
pub fn supported() -> String {
    let names: Vec<&str> = FAMILIES.iter().map(|family| family.name()).collect();
    listed(&names)
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The error for a network of another kind.
pub(crate) fn unsupported(likely: &str) -> NnError {
    NnError::Architecture(format!("the weights match {likely}; supported architectures: {}", supported()))
}

/// The error for arrays that no supported network uses.
pub(crate) fn not_used(names: &[&str]) -> NnError {
    const SHOWN: usize = 3;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| shortened(name)).collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    NnError::Architecture(format!(
        "the file has arrays that {} models do not use: {}{more}",
        supported(),
        shown.join(", ")
    ))
}

/// No exponent of all ones; the largest is found without a branch.
fn is_finite(values: &[f32]) -> bool {
    values.iter().fold(0, |most, value| most.max(value.to_bits() << 1)) < f32::INFINITY.to_bits() << 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_are_neither_infinite_nor_nan_are_finite() {
        assert!(is_finite(&[0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE]));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!is_finite(&[1.0, bad, -1.0]), "{bad}");
        }
    }

    #[test]
    fn supported_architectures_are_named_in_a_sentence() {
        assert_eq!(listed(&["A"]), "A");
        assert_eq!(listed(&["A", "B"]), "A and B");
        assert_eq!(listed(&["A", "B", "C"]), "A, B and C");
        assert!(FAMILIES.iter().all(|family| supported().contains(family.name())));
    }
}
