//! All kernels compute the same network, whatever its sizes; tiles, threads and odd sizes do not show.

#![allow(clippy::needless_range_loop, reason = "a textbook convolution reads best with its indices")]

use std::{ops::ControlFlow, sync::Mutex};

use enlarger_nn::{
    Activation, Architecture, Backend, Isa, Network, NnError, Precision, RunOptions, Sink, Source, StateDict, Tensor,
    pool, upscale,
};

struct Photo {
    width: u32,
    height: u32,
    rgb: Vec<f32>,
}

impl Photo {
    /// Smooth waves with an edge and fine noise: all that a network reacts to.
    fn new(width: u32, height: u32) -> Self {
        let mut random = Random(7);
        let rgb = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| (x, y, c))))
            .map(|(x, y, c)| {
                let wave = 0.5 + 0.25 * ((x as f32 * 0.13 + c as f32).sin() + (y as f32 * 0.21 - c as f32).cos());
                let edge = if (x + 2 * y) % 37 < 9 { 0.2 } else { 0.0 };
                (wave * 0.8 + edge + 0.05 * random.next()).clamp(0.0, 1.0)
            })
            .collect();
        Self { width, height, rgb }
    }
}

impl Source for Photo {
    fn width(&self) -> u32 {
        self.width
    }
    fn height(&self) -> u32 {
        self.height
    }
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        for row in 0..h {
            let start = (((y + row) * self.width + x) * 3) as usize;
            let n = w as usize * 3;
            rgb[row as usize * n..][..n].copy_from_slice(&self.rgb[start..start + n]);
        }
    }
}

struct Canvas {
    width: u32,
    scale: u32,
    rgb: Mutex<Vec<f32>>,
}

impl Sink for Canvas {
    fn write(&self, x: u32, y: u32, w: u32, h: u32, rgb: &[f32]) {
        assert!([x, y, w, h].iter().all(|v| v % self.scale == 0), "{x} {y} {w} {h} in multiples of {}", self.scale);
        let mut all = self.rgb.lock().expect("no panic under it");
        for row in 0..h {
            let start = (((y + row) * self.width + x) * 3) as usize;
            let n = w as usize * 3;
            let to = &mut all[start..start + n];
            assert!(to.iter().all(|v| v.is_nan()), "no pixel is written twice");
            to.copy_from_slice(&rgb[row as usize * n..][..n]);
        }
    }
}

fn run(network: &Network, photo: &Photo, threads: usize, tile: Option<u32>) -> Vec<f32> {
    let scale = network.scale();
    let width = photo.width * scale;
    let pixels = (width * photo.height * scale * 3) as usize;
    let canvas = Canvas { width, scale, rgb: Mutex::new(vec![f32::NAN; pixels]) };
    let options = RunOptions { tile, halo: None };
    let upscale = || upscale(network, photo, &canvas, &options, &|_| ControlFlow::Continue(()));
    pool(threads).and_then(|pool| pool.install(upscale)).expect("it runs");
    let rgb = canvas.rgb.into_inner().expect("no panic under it");
    assert!(rgb.iter().all(|v| v.is_finite()), "every pixel is written, and finite");
    rgb
}

/// SplitMix64, as numbers in -1..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Weights of the right shapes, scaled so that signals neither die nor explode.
fn weights(architecture: &Architecture) -> StateDict {
    let mut random = Random(1);
    let mut dict = StateDict::default();
    let mut conv = |name: String, outputs: usize, inputs: usize| {
        let gain = 1.5 / (9.0 * inputs as f32).sqrt();
        let data = (0..outputs * inputs * 9).map(|_| random.next() * gain).collect();
        dict.0.insert(format!("{name}.weight"), Tensor { shape: vec![outputs, inputs, 3, 3], data });
        let data = (0..outputs).map(|_| random.next() * 0.05).collect();
        dict.0.insert(format!("{name}.bias"), Tensor { shape: vec![outputs], data });
    };
    match *architecture {
        Architecture::RrdbNet { scale, channels_in, channels_out, features, blocks, growth } => {
            let unshuffle = (4 / scale) as usize;
            conv("conv_first".into(), features, channels_in * unshuffle * unshuffle);
            for b in 0..blocks {
                for d in 1..=3 {
                    for k in 1..=5 {
                        let outputs = if k == 5 { features } else { growth };
                        conv(format!("body.{b}.rdb{d}.conv{k}"), outputs, features + (k - 1) * growth);
                    }
                }
            }
            for name in ["conv_body", "conv_up1", "conv_up2", "conv_hr"] {
                conv(name.into(), features, features);
            }
            conv("conv_last".into(), channels_out, features);
        }
        Architecture::Compact { scale, channels_in, channels_out, features, convs, .. } => {
            for i in 0..=convs {
                conv(format!("body.{}", 2 * i), features, if i == 0 { channels_in } else { features });
            }
            conv(format!("body.{}", 2 * convs + 2), channels_out * (scale * scale) as usize, features);
            for i in 0..=convs {
                let data = (0..features).map(|c| 0.1 + 0.01 * (c % 7) as f32).collect();
                dict.0.insert(format!("body.{}.weight", 2 * i + 1), Tensor { shape: vec![features], data });
            }
        }
    }
    dict
}

fn rrdb(scale: u32, features: usize, growth: usize, blocks: usize) -> Architecture {
    Architecture::RrdbNet { scale, channels_in: 3, channels_out: 3, features, blocks, growth }
}

fn compact(scale: u32, features: usize, convs: usize) -> Architecture {
    let activation = Activation::Prelu;
    Architecture::Compact { scale, channels_in: 3, channels_out: 3, features, convs, activation }
}

fn network(architecture: &Architecture, backend: Backend) -> Network {
    Network::build(architecture, &weights(architecture), &backend).expect("it is available")
}

const PORTABLE: Backend = Backend { isa: Isa::Portable, precision: Precision::F32 };

/// Decibels that a network in fewer bits may be off.
fn allowed(backend: Backend) -> Option<f64> {
    match backend.precision {
        Precision::Bf16 => Some(40.0),
        Precision::Int16 => Some(55.0),
        _ => None,
    }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let mse = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / a.len() as f64;
    -10.0 * mse.max(1e-20).log10()
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
        let dict = weights(&architecture);
        let photo = Photo::new(w, h);
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
        for backend in Backend::available() {
            let result = run(&network(&architecture, backend), &photo, 2, None);
            let (db, off) = (psnr(&result, &expected), worst(&result, &expected));
            let right = allowed(backend).map_or(off < 1e-5, |allowed| db > allowed);
            assert!(right, "{backend} {features} features {scale}x: {db} dB, {off}");
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
        let photo = Photo::new(w, h);
        let reference = run(&network(&architecture, PORTABLE), &photo, 1, None);
        for backend in Backend::available() {
            let result = run(&network(&architecture, backend), &photo, 2, None);
            let (db, off) = (psnr(&result, &reference), worst(&result, &reference));
            let right = allowed(backend).map_or(off < 2e-4, |allowed| db > allowed);
            assert!(right, "{backend} {architecture}: {db} dB, {off}");
        }
    }
}

/// Sums of integers are largest where all weights pull one way and inputs change from end to end at every pixel.
#[test]
fn sums_of_integers_do_not_overflow_on_the_worst_of_pictures() {
    let architecture = compact(2, 64, 2);
    let mut dict = weights(&architecture);
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
            let mut photo = Photo::new(20, 20);
            let pixels = photo.rgb.chunks_exact_mut(3).zip(0u32..);
            pixels.for_each(|(rgb, i)| rgb.fill(if bright(i % 20, i / 20) { 1.0 } else { 0.0 }));
            let build = |backend| Network::build(&architecture, &dict, &backend).expect("it is available");
            let reference = run(&build(PORTABLE), &photo, 1, None);
            let most = reference.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            for backend in Backend::available().filter(|backend| backend.precision == Precision::Int16) {
                let off = worst(&run(&build(backend), &photo, 1, None), &reference);
                assert!(off < 0.005 * most, "{backend}: off by {off} of {most}");
            }
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    for architecture in [rrdb(4, 32, 16, 1), compact(4, 32, 2)] {
        let network = network(&architecture, Backend::default());
        let photo = Photo::new(70, 45);
        let one = run(&network, &photo, 1, Some(32));
        assert_eq!(one, run(&network, &photo, 3, Some(32)));
        assert_eq!(one, run(&network, &photo, 0, Some(32)), "zero threads are one");
    }
}

/// Winograd rounds a little differently where tiles of 4x4 begin elsewhere: floats by so much, integers by less than a step
/// of 8 bits. Direct convolutions, on the matrix unit, do not.
fn rounding(backend: Backend, floats: f32) -> f32 {
    match backend.precision {
        Precision::Int16 => 1.0 / 255.0,
        Precision::Bf16 => 0.0,
        _ => floats,
    }
}

#[test]
fn a_compact_network_in_strips_and_bands_is_the_uncut_one() {
    let photo = Photo::new(75, 149);
    for backend in Backend::available() {
        for architecture in [compact(4, 24, 3), compact(2, 16, 20)] {
            let network = network(&architecture, backend);
            let uncut = run(&network, &photo, 2, Some(4096));
            for tile in [1, 16, 37, 60] {
                let off = worst(&run(&network, &photo, 2, Some(tile)), &uncut);
                assert!(off <= rounding(backend, 1e-5), "{backend} {architecture} in tiles of {tile}: {off}");
            }
        }
    }
}

#[test]
fn an_rrdbnet_in_bands_is_the_uncut_one() {
    // As wide as the picture, so that there is only one strip.
    for (w, h) in [(32, 150), (17, 33), (50, 64)] {
        let photo = Photo::new(w, h);
        for backend in Backend::available() {
            for architecture in [rrdb(4, 16, 8, 2), rrdb(2, 24, 16, 1), rrdb(1, 16, 8, 1)] {
                let network = network(&architecture, backend);
                let uncut = run(&network, &photo, 2, Some(4096));
                let off = worst(&run(&network, &photo, 2, Some(w)), &uncut);
                assert!(off <= rounding(backend, 1e-4), "{backend} {architecture} {w}x{h} in bands: {off}");
            }
        }
    }
}

#[test]
fn one_pixel_lines_and_odd_sizes_work() {
    for (w, h) in [(1, 1), (1, 40), (40, 1), (2, 3), (33, 31)] {
        let photo = Photo::new(w, h);
        for architecture in
            [rrdb(4, 16, 8, 1), rrdb(2, 16, 8, 1), rrdb(1, 16, 8, 1), compact(4, 16, 1), compact(3, 8, 1)]
        {
            let network = network(&architecture, Backend::default());
            let size = (w * h * network.scale() * network.scale() * 3) as usize;
            assert_eq!(run(&network, &photo, 2, None).len(), size);
            assert_eq!(run(&network, &photo, 2, Some(1)).len(), size, "a tile of one pixel");
        }
    }
}

#[test]
fn cancelling_ends_the_run_within_a_strip() {
    let network = network(&compact(2, 8, 1), Backend::default());
    let photo = Photo::new(64, 64);
    let canvas = Canvas { width: 128, scale: 2, rgb: Mutex::new(vec![f32::NAN; 128 * 128 * 3]) };
    let calls = Mutex::new(0);
    let options = RunOptions { tile: Some(16), halo: None };
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
    let mut dict = weights(&architecture);
    dict.0.get_mut("body.0.rdb2.conv3.weight").expect("there").shape[1] = 7;
    let error = Network::build(&architecture, &dict, &Backend::default()).err().expect("refused");
    assert!(error.to_string().contains("body.0.rdb2.conv3"), "{error}");
    dict.0.remove("conv_hr.bias");
    assert!(Network::build(&architecture, &dict, &Backend::default()).is_err());
}
