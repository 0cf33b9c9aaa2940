//! The bundled networks compute what onnxruntime computes, on crops of three photos. `reference/make_parity.py` makes
//! the references.

mod common;

use std::path::Path;

use common::{Photo, gpu, psnr, reference, run, worst};
use enlarger_nn::{Backend, Device, Network, NnError, Precision, arch::detect, weights};

const MODELS: [&str; 4] = ["realsr-df2k", "x4plus", "x4plus-anime-6b", "animevideo-v3"];
const CROPS: [(&str, u32, u32); 3] = [("brushes", 32, 32), ("friends", 23, 37), ("stream", 40, 24)];

fn compare(device: &str, precision: Precision, check: impl Fn(&str, &str, &[f32], &[f32])) {
    match (Backend { device: Some(device.to_owned()), precision, ..Backend::default() }).find() {
        Ok(device) => compare_on(&*device, check),
        Err(NnError::Backend(what)) => eprintln!("not tested here, the processor lacks {what}"),
        Err(error) => panic!("{error}"),
    }
}

fn compare_on(device: &dyn Device, check: impl Fn(&str, &str, &[f32], &[f32])) {
    for model in MODELS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../models/weights/{model}.safetensors"));
        let (architecture, dict) = weights::read(&file).and_then(detect).expect("a bundled network");
        let network = Network::build(architecture, &dict, device).expect("it loads");
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
fn is_exact(model: &str, crop: &str, result: &[f32], expected: &[f32]) {
    let off = worst(result, expected);
    assert!(off <= 1e-4 + 0.5 / 16384.0, "{model} on {crop}: off by {off}");
}

fn exact(device: &str) {
    compare(device, Precision::F32, is_exact);
}

#[test]
fn avx2_is_onnxruntime_within_a_ten_thousandth() {
    exact("avx2");
}

#[test]
fn avx512_is_onnxruntime_within_a_ten_thousandth() {
    exact("avx512");
}

#[test]
fn portable_is_onnxruntime_within_a_ten_thousandth() {
    exact("portable");
}

fn close(device: &str, precision: Precision) {
    compare(device, precision, |model, crop, result, expected| {
        let db = psnr(result, expected);
        println!("{model} on {crop}: {db:.1} dB");
        assert!(db >= 50.0, "{model} on {crop}: {db} dB");
    });
}

#[test]
fn bfloat16_is_onnxruntime_within_50_decibels() {
    close("amx", Precision::Bf16);
}

#[test]
fn int16_on_avx2_is_onnxruntime_within_50_decibels() {
    close("avx2", Precision::Int16);
}

#[test]
fn int16_on_avx512_is_onnxruntime_within_50_decibels() {
    close("avx512", Precision::Int16);
}

#[test]
fn f32_on_a_gpu_is_onnxruntime_within_a_ten_thousandth() {
    compare_on(&*gpu(Precision::F32), is_exact);
}

#[test]
fn f16_on_a_gpu_is_onnxruntime_within_60_decibels() {
    compare_on(&*gpu(Precision::Auto), |model, crop, result, expected| {
        let db = psnr(result, expected);
        println!("{model} on {crop}: {db:.1} dB");
        assert!(db >= 60.0, "{model} on {crop}: {db} dB");
    });
}
