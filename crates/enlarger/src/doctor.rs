//! `enlarger doctor`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use enlarger_models::Catalogue;
use enlarger_nn::{Precision, devices::available};
use enlarger_pipeline::{
    Enlarger, EnlargerOptions, Generative, Memory, PipelineError, RemoteGenerator, cores, self_test,
};
use serde_json::json;

use crate::{
    dirs,
    generative::remote,
    gpus,
    machine::{GpuArgs, IsaArgs},
};

/// Check this machine and run a self-test.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print a JSON object to standard output.
    #[arg(long)]
    json: bool,
    /// Also check that a running ComfyUI answers and has what a workflow needs.
    #[arg(long, value_name = "comfyui=URL", value_parser = remote)]
    generator: Option<RemoteGenerator>,
    /// Workflow to check [default: the bundled one].
    #[arg(long, value_name = "FILE", requires = "generator")]
    workflow: Option<PathBuf>,
    #[command(flatten)]
    gpu: GpuArgs,
    #[command(flatten)]
    isa: IsaArgs,
}

/// Runs the command. Code 1 if anything is wrong.
pub fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let survey = gpus::take();
    let device = args.isa.device(Precision::Auto, args.gpu)?;
    let threads = cores().get();
    let memory = Memory::now();
    let (free, total) = (memory.available >> 20, memory.total >> 20);
    let kernels: Vec<String> = available().map(|device| device.to_string()).collect();
    let catalogue = Catalogue::open(dirs::models_dir())?;
    let damaged: Vec<String> =
        catalogue.verify().into_iter().filter_map(|(_, result)| result.err().map(|e| e.to_string())).collect();
    let models = catalogue.list().len();
    let test = self_test(&*device);
    let generator = args.generator.map(|remote| drawn_by(RemoteGenerator { workflow: args.workflow, ..remote }));
    let well = damaged.is_empty() && test.is_ok() && !matches!(generator, Some(Err(_)));
    let in_use = device.to_string();

    if args.json {
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "kernels": kernels,
            "kernels_in_use": in_use,
            "gpus": match &survey {
                Ok(survey) => json!(survey.cards.iter().map(|card| json!({
                    "name": card.name,
                    "pci": card.pci,
                    "driver": card.driver,
                    "memory_mb": card.memory.map(|bytes| bytes >> 20),
                    "gflops": (card.rate > 0.0).then_some(card.rate / 1e9),
                    "verdict": survey.verdict(card),
                })).collect::<Vec<_>>()),
                Err(why) => json!({ "failed": why }),
            },
            "threads": threads,
            "memory_mb": { "available": free, "total": total },
            "models": models,
            "damaged_models": damaged,
            "data_dir": dirs::data_dir(),
            "self_test": match &test {
                Ok(t) => json!({ "passed": true, "off_by": t.worst, "seconds": t.seconds }),
                Err(why) => json!({ "passed": false, "why": why }),
            },
            "generator": generator.as_ref().map(|answer| match answer {
                Ok(names) => json!({ "answers": true, "names": names }),
                Err(why) => json!({ "answers": false, "why": why.to_string() }),
            }),
            "well": well,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("enlarger   {}", env!("CARGO_PKG_VERSION"));
        println!("kernels    {}; in use: {in_use}", kernels.join(", "));
        if device.name() == "portable" {
            println!("           no vector instructions (AVX2 or newer) in use: everything works, but slowly");
        }
        match &survey {
            Ok(survey) if survey.cards.is_empty() => {
                println!("GPU        none that a driver for Vulkan, Metal or Direct3D 12 offers")
            }
            Ok(survey) => {
                for card in &survey.cards {
                    println!("GPU        {card}: {}", survey.verdict(card));
                }
            }
            Err(why) => println!("GPU        {why}"),
        }
        println!("threads    {threads}");
        println!("memory     {free} MB available of {total} MB");
        println!(
            "models     {models}, {}",
            if damaged.is_empty() { "all verified".into() } else { damaged.join("; ") }
        );
        match dirs::data_dir() {
            Some(dir) => println!("data       {}", dir.display()),
            None => println!("data       no home folder: models cannot be added; set ENLARGER_DATA_DIR"),
        }
        match &test {
            Ok(t) => println!("self-test  passed (max error {:.1e}, {:.2} s)", t.worst, t.seconds),
            Err(why) => println!("self-test  FAILED: {why}"),
        }
        match &generator {
            Some(Ok(names)) if names.is_empty() => {
                println!("generator  ComfyUI answers and has what the workflow needs")
            }
            Some(Ok(names)) => println!("generator  ComfyUI answers and has {}", names.join(", ")),
            Some(Err(why)) => println!("generator  FAILED: {why}"),
            None => {}
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The names that another program has for its workflow.
fn drawn_by(remote: RemoteGenerator) -> Result<Vec<String>, PipelineError> {
    let enlarger = Enlarger::new(EnlargerOptions { generator: Some(remote), ..EnlargerOptions::default() })?;
    let names = enlarger.generator_names()?;
    // With several checkpoints there is nothing wrong: a request chooses.
    let checkpoint = names.iter().find(|(kind, _)| *kind == "checkpoint").map(|(_, name)| name.clone());
    enlarger.check(&Generative { checkpoint, ..Generative::default() })?;
    Ok(names.into_iter().map(|(_, name)| name).collect())
}
