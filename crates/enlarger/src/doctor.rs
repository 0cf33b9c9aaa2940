//! `enlarger doctor`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use enlarger_error::Explained;
use enlarger_models::Catalogue;
use enlarger_nn::{
    GpuChoice, Precision,
    devices::{Survey, available},
};
use enlarger_pipeline::{
    Enlarger, EnlargerOptions, Generative, Memory, PipelineError, RemoteGenerator, Unwatched, cores, self_test,
};
use serde_json::json;

use crate::{
    dirs,
    generative::Remotes,
    gpus,
    machine::{GpuArgs, IsaArgs},
    printer,
};

/// Check this machine and run a self-test.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print a JSON object to standard output.
    #[arg(long)]
    json: bool,
    /// Also check that a running ComfyUI answers and has what a workflow needs.
    #[arg(long, value_name = "comfyui=URL", value_parser = Remotes)]
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
    // Each line comes as soon as it is known: a driver or another program may take long to answer.
    macro_rules! line {
        ($($text:tt)*) => { if !args.json { println!($($text)*); } };
    }
    line!("enlarger   {}", env!("CARGO_PKG_VERSION"));
    // What was remembered is measured again.
    let memory = gpus::memory(dirs::data_dir())?;
    let survey = gpus::take(true, &Survey::default());
    if let Ok(survey) = &survey {
        memory.keep(survey);
    }
    // What cannot be had is a finding, and the rest is looked at.
    let (devices, refused) = match args.isa.clone().devices(Precision::Auto, args.gpu.clone(), memory.clone()) {
        Ok(devices) => (devices, None),
        Err(why) => {
            let gpu = GpuArgs { gpu: GpuChoice::None, ..args.gpu };
            (args.isa.devices(Precision::Auto, gpu, memory)?, Some(why))
        }
    };
    let device = &devices[0];
    let kernels: Vec<String> = available().map(|device| device.to_string()).collect();
    let in_use = devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    line!("kernels    {}; in use: {in_use}", kernels.join(", "));
    if device.name() == "portable" {
        line!("           no vector instructions (AVX2 or newer) in use: everything works, but slowly");
    }
    match &survey {
        Ok(survey) => {
            if survey.cards.is_empty() {
                line!("GPU        none that a driver for Vulkan, Metal or Direct3D 12 offers");
            }
            for card in &survey.cards {
                line!("GPU        {card}: {}", survey.verdict(card));
            }
            for what in &survey.lacks {
                line!("           {what}");
            }
        }
        Err(why) => line!("GPU        {why}"),
    }
    if let Some(why) = &refused {
        line!("           FAILED: {}", printer::sentence(why));
        if let Some(hint) = printer::hint_of(why) {
            line!("           hint: {hint}");
        }
    }
    let threads = cores().get();
    line!("threads    {threads}");
    let memory = Memory::now();
    let (free, total) = (memory.available >> 20, memory.total >> 20);
    line!("memory     {free} MB available of {total} MB");
    let catalogue = Catalogue::open(dirs::models_dir())?;
    let damaged: Vec<String> =
        catalogue.verify().into_iter().filter_map(|(_, result)| result.err().map(|e| e.to_string())).collect();
    let models = catalogue.list().len();
    line!("models     {models}, {}", if damaged.is_empty() { "all verified".into() } else { damaged.join("; ") });
    match dirs::data_dir() {
        Some(dir) => line!("data       {}", dir.display()),
        None => line!("data       no home folder: models cannot be added; set ENLARGER_DATA_DIR"),
    }
    let test = self_test(&**device);
    match &test {
        Ok(t) => line!("self-test  passed (max error {:.1e}, {:.2} s)", t.worst, t.seconds),
        Err(why) => line!("self-test  FAILED: {why}"),
    }
    let generator = args.generator.map(|remote| drawn_by(RemoteGenerator { workflow: args.workflow, ..remote }));
    match &generator {
        Some(Ok(names)) if names.is_empty() => line!("generator  ComfyUI answers and has what the workflow needs"),
        Some(Ok(names)) => line!("generator  ComfyUI answers and has {}", names.join(", ")),
        Some(Err(why)) => {
            line!("generator  FAILED: {why}");
            if let Some(hint) = why.hint() {
                line!("           hint: {hint}");
            }
        }
        None => {}
    }
    let well = refused.is_none() && damaged.is_empty() && test.is_ok() && !matches!(generator, Some(Err(_)));

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
                    "matrix_units": card.matrix,
                    "verdict": survey.verdict(card),
                })).collect::<Vec<_>>()),
                Err(why) => json!({ "failed": why }),
            },
            "gpu_refused": refused.as_ref().map(printer::sentence),
            "gpus_lack": survey.as_ref().map(|survey| survey.lacks.clone()).unwrap_or_default(),
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
                Err(why) => json!({ "answers": false, "why": why.to_string(), "hint": why.hint() }),
            }),
            "well": well,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The names that another program has for its workflow.
fn drawn_by(remote: RemoteGenerator) -> Result<Vec<String>, PipelineError> {
    let options = EnlargerOptions { generator: Some(remote), own_requests: true, ..EnlargerOptions::default() };
    let enlarger = Enlarger::new(options)?;
    let names = enlarger.generator_names(&Unwatched)?;
    // With several checkpoints there is nothing wrong: a request chooses.
    let checkpoint = names.iter().find(|(kind, _)| *kind == "checkpoint").map(|(_, name)| name.clone());
    enlarger.check(&Generative { checkpoint, ..Generative::default() }, &Unwatched)?;
    Ok(names.into_iter().map(|(_, name)| name).collect())
}
