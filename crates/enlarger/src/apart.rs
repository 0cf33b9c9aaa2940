//! `enlarger run-apart`: what the server starts for a task that may have killed a worker. Not for people, and so in no help.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use enlarger_pipeline::{Enlarger, EnlargerOptions, Generative, RemoteGenerator};

use crate::machine::MachineArgs;

/// Carry out the order on standard input.
#[derive(Debug, Args)]
pub struct ApartArgs {
    #[arg(long)]
    models_dir: PathBuf,
    #[arg(long)]
    model_dirs: Vec<PathBuf>,
    #[arg(long, value_parser = |json: &str| serde_json::from_str::<Generative>(json))]
    generative: Option<Generative>,
    #[arg(long)]
    generator: Option<String>,
    #[arg(long)]
    workflow: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs one job and reports the outcome on standard output.
pub fn run(args: ApartArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    // A service manager stops the whole process group. The worker decides what that means for this process.
    #[cfg(unix)]
    let _ignored = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let remote = |text: String| RemoteGenerator::parse(&text, args.workflow.clone()).map_err(anyhow::Error::msg);
    let generator = args.generator.map(remote).transpose()?;
    let enlarger = Enlarger::new(EnlargerOptions {
        threads: args.machine.threads,
        strip: None,
        models_dir: Some(args.models_dir),
        lanes: args.machine.lanes()?,
        model_dirs: args.model_dirs,
        own_requests: false,
        generative: args.generative,
        generator,
    })?;
    enlarger_server::run_apart(&enlarger)?;
    Ok(ExitCode::SUCCESS)
}
