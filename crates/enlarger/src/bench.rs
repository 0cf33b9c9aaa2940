//! `enlarger bench`.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use clap::Args;
use enlarger_error::Explained;
use enlarger_models::Catalogue;
use enlarger_nn::{Device, cpu_features};
use enlarger_pipeline::{Speed, bench, cores};
use serde_json::json;

use crate::{
    dirs,
    machine::{MachineArgs, warn_of_threads, whole},
    printer::Hinted,
};

/// Seconds that a run would take at the machine's peak on one thread; the Winograd algorithm takes half of it.
const WORK: f64 = 3.0;
/// Operations per second on one thread, where the peak is not known.
const USUAL: f64 = 5e10;

/// Measure how fast this machine runs each model.
///
/// Times the model alone, from memory to memory, on a gray square. GFLOP/s count the arithmetic of direct convolutions,
/// of which the Winograd algorithm does a quarter, and CPUs multiply more 16-bit values than f32 values at once, so
/// more than 100% of the peak is possible.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Model to measure (see `enlarger models list`); can be repeated [default: all bundled models].
    #[arg(short, long, value_name = "NAME")]
    model: Vec<String>,
    /// Width and height of the test image in pixels [default: chosen so that each run takes a few seconds].
    #[arg(long, value_name = "PIXELS", value_parser = whole::<u32>(16..=8192))]
    size: Option<u32>,
    /// Print a JSON object to standard output.
    #[arg(long)]
    json: bool,
    /// Don't show progress.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

struct Row {
    model: String,
    threads: usize,
    speed: Speed,
    /// Of the f32 peak on as many threads, if that is known.
    share: Option<f64>,
}

/// Runs the command.
pub fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let device = args.machine.devices()?.swap_remove(0);
    let catalogue = Catalogue::open(dirs::models_dir())?;
    let bundled = || catalogue.list().into_iter().filter(|model| model.bundled).map(|model| model.name).collect();
    let models: Vec<String> = if args.model.is_empty() { bundled() } else { args.model.clone() };
    for name in &models {
        if let Err(unknown) = catalogue.get(name) {
            return Err(Hinted::usage(unknown.to_string(), unknown.hint().unwrap_or_default().into_owned()));
        }
    }
    let say = |words: &str| {
        if !args.quiet {
            say!("{words}");
        }
    };
    if !args.quiet {
        warn_of_threads(args.machine.threads);
    }
    let mut counts = match args.machine.threads {
        Some(asked) => vec![asked.min(cores()).get()],
        // A GPU needs one thread.
        None if device.spare().is_some() => vec![1],
        None => vec![1, cores().get()],
    };
    counts.dedup();
    if device.spare().is_none() {
        say("measuring the CPU");
    }
    let peaks: Vec<Option<f64>> = counts.iter().map(|&threads| device.peak_flops(threads)).collect();
    let work = WORK * peaks[0].unwrap_or(USUAL * counts[0] as f64) / counts[0] as f64;
    let total = models.len() * counts.len();
    let widest = models.iter().map(String::len).max().unwrap_or_default();
    if !args.json {
        head(&*device, &counts, &peaks, widest);
    }
    let mut rows = Vec::new();
    for model in &models {
        for (&threads, peak) in counts.iter().zip(&peaks) {
            say(&format!("[{}/{total}] {model}, {}", rows.len() + 1, count(threads)));
            let speed = bench(&catalogue, model, &*device, threads, args.size, work)?;
            let share = peak.map(|peak| speed.flops / speed.seconds / peak);
            let row = Row { model: model.clone(), threads, speed, share };
            if !args.json {
                println!("{}", row.line(widest));
                // To a file, too, as soon as it is known.
                stdout().flush()?;
            }
            rows.push(row);
        }
    }
    if args.json {
        let peaks = counts.iter().zip(&peaks);
        let peaks = peaks.map(|(threads, peak)| json!({ "threads": threads, "gflops": peak.map(|peak| peak / 1e9) }));
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cpu": cpu_name(),
            "features": cpu_features(),
            "kernel": kernel(&*device),
            "f32_peak": peaks.collect::<Vec<_>>(),
            "runs": rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// What stands above the table.
fn head(device: &dyn Device, counts: &[usize], peaks: &[Option<f64>], widest: usize) {
    println!("CPU        {}: {}", cpu_name(), cpu_features().join(", "));
    println!("kernel     {}", kernel(device));
    let peaks = counts.iter().zip(peaks);
    let peaks = peaks.filter_map(|(&threads, peak)| Some(format!("{:.1} on {}", (*peak)? / 1e9, count(threads))));
    let peaks: Vec<String> = peaks.collect();
    if !peaks.is_empty() {
        println!("f32 peak   {} GFLOP/s", peaks.join(", "));
    }
    println!("\n{:widest$}      input  threads  MP/s out  GFLOP/s  of f32 peak  memory, MB", "model");
}

/// The device, and of a GPU the kind of its kernels.
fn kernel(device: &dyn Device) -> String {
    device.health().map_or_else(|| device.to_string(), |health| format!("{device} ({})", health.kernel))
}

impl Row {
    /// Megapixels of the result per second.
    fn megapixels(&self) -> f64 {
        self.speed.pixels / self.speed.seconds / 1e6
    }

    fn gflops(&self) -> f64 {
        self.speed.flops / self.speed.seconds / 1e9
    }

    fn line(&self, widest: usize) -> String {
        let input = format!("{0}x{0}", self.speed.side);
        let share = self.share.map_or("-".into(), |share| format!("{:.0} %", 100.0 * share));
        let memory = self.speed.peak_memory.map_or("-".into(), |bytes| (bytes >> 20).to_string());
        format!(
            "{:widest$}  {input:>9}  {:>7}  {:>8.3}  {:>7.0}  {share:>11}  {memory:>10}",
            self.model,
            self.threads,
            self.megapixels(),
            self.gflops(),
        )
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "model": self.model,
            "side": self.speed.side,
            "threads": self.threads,
            "seconds": self.speed.seconds,
            "megapixels_per_second": self.megapixels(),
            "gflop_per_megapixel": self.speed.flops / self.speed.pixels / 1e3,
            "gflops": self.gflops(),
            "share_of_f32_peak": self.share,
            "peak_memory_mb": self.speed.peak_memory.map(|bytes| bytes >> 20),
        })
    }
}

fn count(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// As the system names it.
fn cpu_name() -> String {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_all();
    system.cpus().first().map_or("unknown", |cpu| cpu.brand().trim()).to_owned()
}
