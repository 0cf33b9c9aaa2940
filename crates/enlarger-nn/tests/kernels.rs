//! All devices compute the same network, whatever its sizes; strips, bands, threads and odd sizes do not show.

#![allow(clippy::needless_range_loop, reason = "a textbook convolution reads best with its indices")]

mod common;

use std::{ops::ControlFlow, sync::Mutex};

use common::{Canvas, Photo, portable, psnr, random_weights, run_in_strips as run, worst};
use enlarger_nn::{
    Architecture, Arithmetic, Backend, Device, Network, NnError, RunOptions, Tensor,
    arch::{Activation, Compact, RrdbNet},
    devices::available,
    upscale,
};

fn rrdb(scale: usize, features: usize, growth: usize, blocks: usize) -> RrdbNet {
    RrdbNet { unshuffle: 4 / scale, channels: 3, features, blocks, growth, upsamplings: 2 }
}

fn compact(scale: u32, features: usize, convs: usize) -> Compact {
    Compact { scale, channels: 3, features, convs, activation: Activation::Prelu }
}

fn network<A: Architecture + Copy + 'static>(architecture: A, device: &dyn Device) -> Network {
    Network::build(Box::new(architecture), &random_weights(&architecture), device).expect("weights that fit")
}

fn fastest(architecture: impl Architecture + Copy + 'static) -> Network {
    network(architecture, &*Backend::default().find().expect("there is one"))
}

/// Decibels that a network in fewer bits may be off.
fn allowed(device: &dyn Device) -> Option<f64> {
    match device.arithmetic() {
        Arithmetic::Bf16 => Some(40.0),
        Arithmetic::F16 | Arithmetic::Int16 => Some(55.0),
        Arithmetic::F32 => None,
    }
}

/// A textbook convolution in f64, straight from the definition, on `[c][y][x]`.
fn textbook(input: &[Vec<f64>], w: usize, h: usize, kernel: &Tensor, bias: &Tensor) -> Vec<Vec<f64>> {
    let (outputs, inputs) = (kernel.shape[0], kernel.shape[1]);
    (0..outputs)
        .map(|o| {
            let mut plane = vec![f64::from(bias.data[o]); w * h];
            for i in 0..inputs {
                for tap in 0..9 {
                    let weight = f64::from(kernel.data[(o * inputs + i) * 9 + tap]);
                    for y in 0..h {
                        for x in 0..w {
                            let (sy, sx) = ((y + tap / 3).wrapping_sub(1), (x + tap % 3).wrapping_sub(1));
                            if sy < h && sx < w {
                                plane[y * w + x] += weight * input[i][sy * w + sx];
                            }
                        }
                    }
                }
            }
            plane
        })
        .collect()
}

#[test]
fn every_kernel_computes_a_compact_network_as_the_textbook_does() {
    for (features, scale, w, h) in [(24, 2, 19, 13), (64, 4, 33, 5), (16, 3, 1, 1), (48, 1, 40, 2)] {
        let architecture = compact(scale, features, 2);
        let dict = random_weights(&architecture);
        let photo = Photo::waves(w, h);
        let (w, h, s) = (w as usize, h as usize, scale as usize);
        let mut planes: Vec<Vec<f64>> =
            (0..3).map(|c| photo.rgb.iter().skip(c).step_by(3).map(|&v| f64::from(v)).collect()).collect();
        for i in 0..=3 {
            let (kernel, bias) = (&dict.0[&format!("body.{}.weight", 2 * i)], &dict.0[&format!("body.{}.bias", 2 * i)]);
            planes = textbook(&planes, w, h, kernel, bias);
            if i < 3 {
                let slopes = &dict.0[&format!("body.{}.weight", 2 * i + 1)].data;
                for (plane, &slope) in planes.iter_mut().zip(slopes) {
                    plane.iter_mut().for_each(|v| *v = v.max(0.0) + f64::from(slope) * v.min(0.0));
                }
            }
        }
        let mut expected = vec![0.0f32; w * s * h * s * 3];
        for y in 0..h * s {
            for x in 0..w * s {
                for c in 0..3 {
                    let plane = &planes[c * s * s + (y % s) * s + x % s];
                    let at = (y / s) * w + x / s;
                    expected[(y * w * s + x) * 3 + c] = plane[at] as f32 + photo.rgb[at * 3 + c];
                }
            }
        }
        for device in available() {
            let result = run(&network(architecture, &*device), &photo, 2, None);
            let (db, off) = (psnr(&result, &expected), worst(&result, &expected));
            let right = allowed(&*device).map_or(off < 1e-5, |allowed| db > allowed);
            assert!(right, "{device} {features} features {scale}x: {db} dB, {off}");
        }
    }
}

#[test]
fn every_kernel_computes_an_rrdbnet_as_the_portable_one_does() {
    for (architecture, w, h) in [
        (rrdb(4, 64, 32, 1), 21, 17),
        (rrdb(4, 24, 12, 2), 35, 9),
        (rrdb(2, 32, 16, 1), 31, 7),
        (rrdb(1, 16, 8, 1), 13, 18),
    ] {
        let photo = Photo::waves(w, h);
        let reference = run(&network(architecture, &*portable()), &photo, 1, None);
        for device in available() {
            let result = run(&network(architecture, &*device), &photo, 2, None);
            let (db, off) = (psnr(&result, &reference), worst(&result, &reference));
            let right = allowed(&*device).map_or(off < 2e-4, |allowed| db > allowed);
            assert!(right, "{device} {architecture}: {db} dB, {off}");
        }
    }
}

/// Sums of integers are largest where all weights pull one way and inputs change from end to end at every pixel.
#[test]
fn sums_of_integers_do_not_overflow_on_the_worst_of_pictures() {
    let architecture = compact(2, 64, 2);
    let mut dict = random_weights(&architecture);
    let signs: [fn(usize) -> f32; 3] = [
        |_| 1.0,
        |tap| if tap % 2 == 0 { 1.0 } else { -1.0 },
        |tap| {
            if tap % 9 == 4 { 1.0 } else { -1.0 }
        },
    ];
    for sign in signs {
        for tensor in dict.0.values_mut().filter(|tensor| tensor.shape.len() == 4) {
            tensor.data.iter_mut().enumerate().for_each(|(i, weight)| *weight = sign(i % 9) / 64.0);
        }
        for bright in
            [|_, _| true, |x: u32, y: u32| (x + y).is_multiple_of(2), |x, y| (x, y) == (9, 9), |x, _| x % 4 < 2]
        {
            let mut photo = Photo::waves(20, 20);
            let pixels = photo.rgb.chunks_exact_mut(3).zip(0u32..);
            pixels.for_each(|(rgb, i)| rgb.fill(if bright(i % 20, i / 20) { 1.0 } else { 0.0 }));
            let build =
                |device: &dyn Device| Network::build(Box::new(architecture), &dict, device).expect("weights that fit");
            let reference = run(&build(&*portable()), &photo, 1, None);
            let most = reference.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            for device in available().filter(|device| device.arithmetic() == Arithmetic::Int16) {
                let off = worst(&run(&build(&*device), &photo, 1, None), &reference);
                assert!(off < 0.005 * most, "{device}: off by {off} of {most}");
            }
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    for network in [fastest(rrdb(4, 32, 16, 1)), fastest(compact(4, 32, 2))] {
        let photo = Photo::waves(70, 45);
        let one = run(&network, &photo, 1, Some(32));
        assert_eq!(one, run(&network, &photo, 3, Some(32)));
        assert_eq!(one, run(&network, &photo, 0, Some(32)), "zero threads are one");
    }
}

/// Winograd rounds a little differently where tiles of 4x4 begin elsewhere: floats by so much, integers by less than a step
/// of 8 bits. Direct convolutions, on the matrix unit, do not.
fn rounding(device: &dyn Device, floats: f32) -> f32 {
    match device.arithmetic() {
        Arithmetic::Int16 => 1.0 / 255.0,
        Arithmetic::Bf16 | Arithmetic::F16 => 0.0,
        Arithmetic::F32 => floats,
    }
}

#[test]
fn a_compact_network_in_strips_and_bands_is_the_uncut_one() {
    let photo = Photo::waves(75, 149);
    for device in available() {
        for architecture in [compact(4, 24, 3), compact(2, 16, 20)] {
            let network = network(architecture, &*device);
            let uncut = run(&network, &photo, 2, Some(4096));
            for strip in [1, 16, 37, 60] {
                let off = worst(&run(&network, &photo, 2, Some(strip)), &uncut);
                assert!(off <= rounding(&*device, 1e-5), "{device} {architecture} in strips of {strip}: {off}");
            }
        }
    }
}

#[test]
fn an_rrdbnet_in_bands_is_the_uncut_one() {
    // As wide as the picture, so that there is only one strip.
    for (w, h) in [(32, 150), (17, 33), (50, 64)] {
        let photo = Photo::waves(w, h);
        for device in available() {
            for architecture in [rrdb(4, 16, 8, 2), rrdb(2, 24, 16, 1), rrdb(1, 16, 8, 1)] {
                let network = network(architecture, &*device);
                let uncut = run(&network, &photo, 2, Some(4096));
                let off = worst(&run(&network, &photo, 2, Some(w)), &uncut);
                assert!(off <= rounding(&*device, 1e-4), "{device} {architecture} {w}x{h} in bands: {off}");
            }
        }
    }
}

/// The fastest device makes of a photo what the portable one does, uncut and in strips of one pixel.
fn any_size(architecture: impl Architecture + Copy + 'static, photo: &Photo) {
    let device = Backend::default().find().expect("there is one");
    let reference = run(&network(architecture, &*portable()), photo, 1, None);
    for strip in [None, Some(1)] {
        let result = run(&network(architecture, &*device), photo, 2, strip);
        let (db, off) = (psnr(&result, &reference), worst(&result, &reference));
        let right = allowed(&*device).map_or(off < 2e-4, |allowed| db > allowed);
        assert!(right, "{device} {architecture} {}x{}, strips of {strip:?}: {db} dB, {off}", photo.width, photo.height);
    }
}

#[test]
fn one_pixel_lines_and_odd_sizes_work() {
    for (w, h) in [(1, 1), (1, 40), (40, 1), (2, 3), (33, 31)] {
        let photo = Photo::waves(w, h);
        for scale in [1, 2, 4] {
            any_size(rrdb(scale, 16, 8, 1), &photo);
        }
        any_size(compact(4, 16, 1), &photo);
        any_size(compact(3, 8, 1), &photo);
    }
}

#[test]
fn cancelling_ends_the_run_within_a_strip() {
    let network = fastest(compact(2, 8, 1));
    let photo = Photo::waves(64, 64);
    let canvas = Canvas::new(&photo, network.scale());
    let calls = Mutex::new(0);
    let options = RunOptions { strip: Some(16), halo: None };
    let result = upscale(&network, &photo, &canvas, &options, &|progress| {
        *calls.lock().expect("no panic under it") += 1;
        assert_eq!(progress.total, 4);
        if progress.fraction > 0.2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(result, Err(NnError::Cancelled));
    // Three convolutions in four bands and the end of each strip: nothing of the second of four strips is done.
    assert!((5..=20).contains(&*calls.lock().expect("no panic under it")));
    let written = canvas.rgb.lock().expect("no panic under it").iter().filter(|v| !v.is_nan()).count();
    assert!((1..=3 * 32 * 128).contains(&written), "one strip is begun: {written}");
}

#[test]
fn weights_that_do_not_fit_are_refused_with_the_array_named() {
    let architecture = rrdb(4, 16, 8, 1);
    let mut dict = random_weights(&architecture);
    dict.0.get_mut("body.0.rdb2.conv3.weight").expect("there").shape[1] = 7;
    let refused = |dict: &_| {
        let error = Network::build(Box::new(architecture), dict, &*portable()).err();
        error.expect("refused").to_string()
    };
    let error = refused(&dict);
    assert!(error.contains("body.0.rdb2.conv3"), "{error}");
    dict = random_weights(&architecture);
    dict.0.remove("conv_hr.bias");
    let error = refused(&dict);
    assert!(error.contains("conv_hr.bias is missing"), "{error}");
}
