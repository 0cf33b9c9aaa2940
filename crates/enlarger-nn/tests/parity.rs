//! The bundled networks compute what onnxruntime computes, on crops of three photos. `reference/make_parity.py` makes
//! the references.

mod common;

use std::path::Path;

use common::{Photo, psnr, reference, run, worst};
use enlarger_nn::{Backend, Isa, Network, NnError, Precision, architecture, weights};

const MODELS: [&str; 4] = ["realsr-df2k", "x4plus", "x4plus-anime-6b", "animevideo-v3"];
const CROPS: [(&str, u32, u32); 3] = [("brushes", 32, 32), ("friends", 23, 37), ("stream", 40, 24)];

fn compare(isa: Isa, precision: Precision, check: impl Fn(&str, &str, &[f32], &[f32])) {
    for model in MODELS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../models/weights/{model}.safetensors"));
        let (kind, dict) = weights::read(&file).and_then(architecture::detect).expect("a bundled network");
        let network = match Network::build(&kind, &dict, &Backend { isa, precision }) {
            Ok(network) => network,
            Err(NnError::Backend(what)) => return eprintln!("not tested here, the processor lacks {what}"),
            Err(error) => panic!("{error}"),
        };
        for &(crop, width, height) in &CROPS {
            let bytes = std::fs::read(reference(&format!("{crop}.{width}x{height}.rgb"))).expect("a crop");
            let photo = Photo { width, height, rgb: bytes.iter().map(|&v| f32::from(v) / 255.0).collect() };
            let expected = std::fs::read(reference(&format!("{crop}.{model}.i16"))).expect("a reference");
            let expected: Vec<f32> =
                expected.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 16384.0).collect();
            check(model, crop, &run(&network, &photo), &expected);
        }
    }
}

/// 1e-4, and the half step of 1/16384 that the references are rounded by.
fn exact(isa: Isa) {
    compare(isa, Precision::F32, |model, crop, result, expected| {
        let off = worst(result, expected);
        assert!(off <= 1e-4 + 0.5 / 16384.0, "{model} on {crop}: off by {off}");
    });
}

#[test]
fn avx2_is_onnxruntime_within_a_ten_thousandth() {
    exact(Isa::Avx2);
}

#[test]
fn avx512_is_onnxruntime_within_a_ten_thousandth() {
    exact(Isa::Avx512);
}

#[test]
fn portable_is_onnxruntime_within_a_ten_thousandth() {
    exact(Isa::Portable);
}

fn close(isa: Isa, precision: Precision) {
    compare(isa, precision, |model, crop, result, expected| {
        let db = psnr(result, expected);
        println!("{model} on {crop}: {db:.1} dB");
        assert!(db >= 50.0, "{model} on {crop}: {db} dB");
    });
}

#[test]
fn bfloat16_is_onnxruntime_within_50_decibels() {
    close(Isa::Amx, Precision::Bf16);
}

#[test]
fn integers_on_avx2_are_onnxruntime_within_50_decibels() {
    close(Isa::Avx2, Precision::Int16);
}

#[test]
fn integers_on_avx512_are_onnxruntime_within_50_decibels() {
    close(Isa::Avx512, Precision::Int16);
}
