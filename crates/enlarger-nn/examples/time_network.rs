//! Times a network, for comparisons with other programs in one run: it is loaded once, and images come one by one.
//!
//! Usage: `time_network MODEL.safetensors [auto|portable|avx2|avx512|amx [auto|f32|int16|bf16]]`, then a line per run on standard input:
//! `THREADS WIDTH HEIGHT IMAGE RESULT [STRIP]`. IMAGE is raw 8-bit RGB; RESULT takes raw 32-bit floats, or is `-`.
//! Prints the seconds that each run took.

use std::{
    error::Error,
    io::BufRead,
    ops::ControlFlow,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use enlarger_nn::{Backend, Network, Precision, RunOptions, Sink, Source, arch::detect, pool, upscale, weights::read};

struct Photo {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Source for Photo {
    fn width(&self) -> u32 {
        self.width
    }
    fn height(&self) -> u32 {
        self.height
    }
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        for (row, line) in rgb.chunks_exact_mut(w as usize * 3).take(h as usize).enumerate() {
            let start = ((y as usize + row) * self.width as usize + x as usize) * 3;
            for (to, from) in line.iter_mut().zip(&self.rgb[start..]) {
                *to = f32::from(*from) / 255.0;
            }
        }
    }
}

/// Rows of the result, each with a lock of its own, so that threads do not wait for each other.
struct Rows(Vec<Mutex<Vec<f32>>>);

impl Sink for Rows {
    fn write(&self, x: u32, y: u32, w: u32, _: u32, rgb: &[f32]) {
        for (row, line) in self.0[y as usize..].iter().zip(rgb.chunks_exact(w as usize * 3)) {
            let mut row = row.lock().expect("no panic under it");
            row[x as usize * 3..][..line.len()].copy_from_slice(line);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("which network?")?;
    let device = arguments.next().filter(|name| name != "auto");
    let precision: Precision = serde_json::from_value(arguments.next().unwrap_or_else(|| "auto".into()).into())?;
    let device = Backend { device, precision, ..Backend::default() }.find()?;
    let (architecture, weights) = read(Path::new(&model)).and_then(detect)?;
    let network = Network::build(architecture, &weights, &*device)?;
    drop(weights);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [threads, width, height, image, result, strip @ ..] = words.as_slice() else {
            return Err("THREADS WIDTH HEIGHT IMAGE RESULT [STRIP]".into());
        };
        let photo = Photo { width: width.parse()?, height: height.parse()?, rgb: std::fs::read(image)? };
        let (across, down) = (photo.width * network.scale(), photo.height * network.scale());
        let sink = Rows((0..down).map(|_| Mutex::new(vec![0.0; across as usize * 3])).collect());
        let strip = strip.first().map(|strip| strip.parse()).transpose()?;
        let options = RunOptions { strip, halo: None };
        let pool = pool(threads.parse()?)?;
        let started = Instant::now();
        pool.install(|| upscale(&network, &photo, &sink, &options, &|_| ControlFlow::Continue(())))?;
        let time: Duration = started.elapsed();
        if *result != "-" {
            let rows = sink.0.into_iter().flat_map(|row| row.into_inner().expect("no panic under it"));
            std::fs::write(result, rows.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())?;
        }
        println!("{:.6}", time.as_secs_f64());
    }
    Ok(())
}
