//! Files that PyTorch wrote load, whatever their form and naming, and compute what PyTorch computes; no file is run.
//! `reference/make_pth.py` makes them.

mod common;

use std::path::Path;

use common::{load, reference};
use enlarger_nn::{arch::detect, weights};
use proptest::prelude::*;

fn check(name: &str, scale: u32) -> String {
    let kind = common::check(&reference(&format!("{name}.pth")), name);
    assert!(kind.contains(&format!(" {scale}x, ")), "{name}: {kind}");
    kind
}

#[test]
fn rrdbnet_loads_from_every_form_and_naming() {
    for name in ["rrdb_x4_zip", "rrdb_x4_esrgan_legacy", "rrdb_x4_trunk_parameters"] {
        let kind = check(name, 4);
        assert_eq!(kind, "RRDBNet 4x, 1 blocks, 8 features, growth 4", "{name}");
    }
}

#[test]
fn networks_that_unshuffle_pixels_first_are_2x_and_1x() {
    check("rrdb_x2_zip", 2);
    check("rrdb_x1_legacy", 1);
}

#[test]
fn compact_loads_in_half_precision_and_from_strided_views() {
    check("compact_x2_half", 2);
    check("compact_x3_strided", 3);
}

#[test]
fn esrgan_plus_is_computed_with_its_convolutions_of_one_pixel() {
    for name in ["plus_x4_checkpoint", "plus_x4_esrgan_legacy"] {
        let kind = check(name, 4);
        assert_eq!(kind, "RRDBNet 4x, 1 blocks, 8 features, growth 4", "{name}");
    }
}

#[test]
fn checkpoints_load_whatever_stands_around_and_beside_the_network() {
    // `module.module.` within `generator`, an optimizer's state, counters; `params-ema` of `typing.OrderedDict`.
    check("plus_x4_checkpoint", 4);
    check("typed_x2_params-ema", 2);
}

#[test]
fn a_file_that_wants_to_run_code_is_refused_by_name_and_nothing_runs() {
    let error = weights::read(&reference("evil.pth")).expect_err("refused").to_string();
    assert!(error.contains("system") && error.contains("never runs"), "{error}");
    assert!(!Path::new("/tmp/enlarger-was-here").exists());
}

#[test]
fn unsupported_networks_are_named() {
    let mut dict = enlarger_nn::StateDict::default();
    let tensor = enlarger_nn::Tensor { shape: vec![1], data: vec![0.0] };
    dict.0.insert("layers.0.residual_group.blocks.0.attn.relative_position_bias_table".into(), tensor);
    let error = detect(dict).expect_err("unsupported").to_string();
    assert!(error.contains("SwinIR") && error.contains("RRDBNet"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Damage anywhere is an error or a changed number, never a panic, an abort or a huge allocation.
    #[test]
    fn damaged_files_never_panic(
        file in prop::sample::select(vec![
            "compact_x2_half.pth", "rrdb_x1_legacy.pth", "evil.pth", "plus_x4_checkpoint.pth",
            "compact_x2_half.expected.safetensors",
        ]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(reference(file)).expect("there");
        for (at, value) in edits {
            let at = at.index(bytes.len().min(3000));
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("damaged.pth");
        std::fs::write(&path, bytes).expect("written");
        let _ = load(&path);
    }
}
