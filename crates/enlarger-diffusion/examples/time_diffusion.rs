//! Times the UNet and the VAE of a checkpoint, for comparisons with other programs in one run: they are loaded once.
//!
//! Usage: `time_diffusion CHECKPOINT THREADS`, then a line per run on standard input: `unet|decode INPUTS RESULT`. INPUTS is a
//! file of raw 32-bit floats, channels last: latents of 64x64, then for `unet` the hidden states of 77 tokens. RESULT takes the
//! result in the same form, or is `-`. Prints the seconds that loading took, and then those of each run.

use std::{error::Error, io::BufRead, path::Path, time::Instant};

use enlarger_diffusion::{
    cpu::Cpu,
    family::Checkpoint,
    ops::Ops,
    unet::{Context, Unet, heads},
    vae::Vae,
};

const SIDE: usize = 64;
const TOKENS: usize = 77;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let checkpoint = arguments.next().ok_or("which checkpoint?")?;
    let threads = arguments.next().map_or(Ok(1), |n| n.parse())?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(|| run(Path::new(&checkpoint)))
}

fn run(checkpoint: &Path) -> Result<()> {
    let ops = Cpu::default();
    let started = Instant::now();
    let checkpoint = Checkpoint::open(checkpoint)?;
    let unet = Unet::load(&ops, &checkpoint.unet, heads(&checkpoint.unet))?;
    let vae = Vae::load(&ops, &checkpoint.vae, 1.0)?;
    println!("{:.3}", started.elapsed().as_secs_f64());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, inputs, result] = words.as_slice() else { return Err("unet|decode INPUTS RESULT".into()) };
        let bytes = std::fs::read(inputs)?;
        let inputs: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let (latents, text) = inputs.split_at(SIDE * SIDE * 4);
        let latents = ops.upload([1, SIDE, SIDE, 4], latents)?;
        let text = ops.upload([1, 1, TOKENS, text.len() / TOKENS], text)?;
        let started = Instant::now();
        let x = match *what {
            "unet" => unet.run(&ops, &latents, 500.0, &Context { text, added: None }, None)?,
            _ => vae.decode(&ops, &latents)?,
        };
        let time = started.elapsed();
        if *result != "-" {
            std::fs::write(result, ops.download(&x)?.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())?;
        }
        println!("{:.6}", time.as_secs_f64());
    }
    Ok(())
}
