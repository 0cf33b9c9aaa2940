//! Whether this machine computes correctly: compares with a known answer from another program.

use std::{ops::ControlFlow, sync::Mutex, time::Instant};

use enlarger_models::Catalogue;
use enlarger_nn::{Arithmetic, Device, Network, RunOptions, Sink, Source, pool, upscale};

/// Side of the test picture.
const SIDE: u32 = 24;
/// Column, row and channel of the result of `animevideo-v3`, and the value that onnxruntime 1.32 gives there in f32.
const EXPECTED: [(u32, u32, u32, f32); 12] = [
    (3, 7, 0, 0.060615),
    (32, 60, 1, 0.000822),
    (61, 17, 2, 0.864253),
    (90, 70, 0, 0.432129),
    (23, 27, 1, 0.567429),
    (52, 80, 2, 0.118903),
    (81, 37, 0, 0.025367),
    (14, 90, 1, 0.326375),
    (43, 47, 2, 0.527849),
    (72, 4, 0, 0.688933),
    (5, 57, 1, 0.840307),
    (34, 14, 2, 0.608494),
];

/// A passed self-test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelfTest {
    /// The largest difference from the known answer, of values in 0..=1.
    pub worst: f32,
    /// Seconds it took, loading included.
    pub seconds: f64,
}

/// Runs the smallest bundled network on a computed picture and compares with the known answer.
///
/// # Errors
/// A sentence, if the network does not run, another device had to go on, or its result is off by more than 1e-4 (f32) or 0.02 (fewer bits).
pub fn self_test(device: &dyn Device) -> Result<SelfTest, String> {
    let started = Instant::now();
    let catalogue = Catalogue::open(None).map_err(|e| e.to_string())?;
    let (architecture, weights) = catalogue.load("animevideo-v3").map_err(|e| e.to_string())?;
    let network = Network::build(architecture, &weights, device).map_err(|e| e.to_string())?;
    let canvas = Canvas(Mutex::new(vec![f32::NAN; (SIDE * SIDE * 16 * 3) as usize]));
    let options = RunOptions::default();
    let upscale = || upscale(&network, &Pattern, &canvas, &options, &|_| ControlFlow::Continue(()));
    let notes = pool(2).and_then(|pool| pool.install(upscale)).map_err(|e| e.to_string())?;
    if let Some(note) = notes.into_iter().next() {
        return Err(note);
    }
    let result = canvas.0.into_inner().map_err(|e| e.to_string())?;
    let off = |&(x, y, c, value): &(u32, u32, u32, f32)| (result[((y * SIDE * 4 + x) * 3 + c) as usize] - value).abs();
    let worst = EXPECTED.iter().map(off).fold(0.0, |a: f32, b| if b.is_nan() { f32::INFINITY } else { a.max(b) });
    let allowed = if device.arithmetic() == Arithmetic::F32 { 1e-4 } else { 0.02 };
    if worst > allowed {
        return Err(format!("the result is off by {worst}; {device} allows at most {allowed}"));
    }
    Ok(SelfTest { worst, seconds: started.elapsed().as_secs_f64() })
}

/// `(11 x + 7 y (c + 1)) mod 256`.
struct Pattern;

impl Source for Pattern {
    fn width(&self) -> u32 {
        SIDE
    }
    fn height(&self) -> u32 {
        SIDE
    }
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        for (i, value) in rgb.iter_mut().take((w * h * 3) as usize).enumerate() {
            let (c, pixel) = (i as u32 % 3, i as u32 / 3);
            let (x, y) = (x + pixel % w, y + pixel / w);
            *value = ((x * 11 + y * 7 * (c + 1)) % 256) as f32 / 255.0;
        }
    }
}

struct Canvas(Mutex<Vec<f32>>);

impl Sink for Canvas {
    fn write(&self, x: u32, y: u32, w: u32, h: u32, rgb: &[f32]) {
        let mut all = self.0.lock().expect("no panic under it");
        let n = (w * 3) as usize;
        for row in 0..h {
            let start = (((y + row) * SIDE * 4 + x) * 3) as usize;
            all[start..start + n].copy_from_slice(&rgb[row as usize * n..][..n]);
        }
    }
}
