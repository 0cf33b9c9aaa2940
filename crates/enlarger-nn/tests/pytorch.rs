//! Files that PyTorch wrote load, whatever their form and naming, and compute what PyTorch computes; no file is run.
//! `reference/make_pth.py` makes them.

mod common;

use std::path::{Path, PathBuf};

use common::{Photo, run, worst};
use enlarger_nn::{Architecture, Backend, Isa, Network, Precision, architecture, weights};
use proptest::prelude::*;

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

fn check(name: &str, scale: u32) -> Architecture {
    let (kind, dict) = weights::read(&reference(&format!("{name}.pth"))).and_then(architecture::detect).expect(name);
    assert_eq!(kind.scale(), scale, "{name}");
    let backend = Backend { isa: Isa::Portable, precision: Precision::F32 };
    let network = Network::build(&kind, &dict, &backend).expect(name);
    let expected = weights::read(&reference(&format!("{name}.expected.safetensors"))).expect("a reference");
    let (input, output) = (&expected.0["input"], &expected.0["output"]);
    let photo = Photo { width: input.shape[1] as u32, height: input.shape[0] as u32, rgb: input.data.clone() };
    let off = worst(&run(&network, &photo), &output.data);
    assert!(off < 1e-5, "{name}: off by {off}");
    kind
}

#[test]
fn rrdbnet_loads_from_every_form_and_naming() {
    for name in ["rrdb_x4_zip", "rrdb_x4_esrgan_legacy", "rrdb_x4_trunk_parameters"] {
        let kind = check(name, 4);
        assert!(matches!(kind, Architecture::RrdbNet { features: 8, blocks: 1, growth: 4, .. }), "{name}: {kind}");
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
fn a_file_that_wants_to_run_code_is_refused_by_name_and_nothing_runs() {
    let error = weights::read(&reference("evil.pth")).expect_err("refused").to_string();
    assert!(error.contains("system") && error.contains("no code"), "{error}");
    assert!(!Path::new("/tmp/enlarger-was-here").exists());
}

#[test]
fn unsupported_networks_are_named() {
    let mut dict = enlarger_nn::StateDict::default();
    let tensor = enlarger_nn::Tensor { shape: vec![1], data: vec![0.0] };
    dict.0.insert("layers.0.residual_group.blocks.0.attn.relative_position_bias_table".into(), tensor);
    let error = architecture::detect(dict).expect_err("unsupported").to_string();
    assert!(error.contains("SwinIR") && error.contains("RRDBNet"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Damage anywhere is an error or a changed number, never a panic, an abort or a huge allocation.
    #[test]
    fn damaged_files_never_panic(
        file in prop::sample::select(vec![
            "compact_x2_half.pth", "rrdb_x1_legacy.pth", "evil.pth", "compact_x2_half.expected.safetensors",
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
        if let Ok((kind, dict)) = weights::read(&path).and_then(architecture::detect) {
            let _ = Network::build(&kind, &dict, &Backend { isa: Isa::Portable, precision: Precision::F32 });
        }
    }
}
