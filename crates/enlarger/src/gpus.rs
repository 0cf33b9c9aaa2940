//! `enlarger survey-gpus`: what other commands start to learn of GPUs. Drivers crash and hang; here they take nothing with them.
//! Not for people, and so in no help.

use std::{
    io::{Read, Write, stdin},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use enlarger_nn::{
    Backend, Device, GpuChoice, NnError,
    devices::{
        Memory, Survey,
        gpu::{list, survey},
    },
};

use crate::printer::Hinted;

/// The subcommand that [`take`] starts.
pub const COMMAND: &str = "survey-gpus";
/// A driver that has not answered by then hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// The file in the data directory that remembers what was measured.
const FILE: &str = "gpus.json";

/// Print the GPUs of this machine as JSON.
#[derive(Debug, Args)]
pub struct SurveyArgs {
    /// Measure those that standard input, an earlier survey, does not know.
    #[arg(long)]
    measure: bool,
}

/// Prints a survey as JSON.
pub fn run(args: &SurveyArgs) -> anyhow::Result<ExitCode> {
    let survey = if args.measure {
        let mut known = String::new();
        stdin().read_to_string(&mut known)?;
        survey(&Backend::default().find()?, &serde_json::from_str(&known)?)
    } else {
        list()
    };
    println!("{}", serde_json::to_string(&survey)?);
    Ok(ExitCode::SUCCESS)
}

/// Opens the devices that are asked for: GPUs, or the CPU. GPUs that were used before are opened at once; others are asked for and
/// measured by a process of its own. If that one dies, GPUs that are not named are left alone, with a warning.
///
/// # Errors
/// As [`Backend::open`]; a sentence with a hint if drivers crash under a GPU that is named.
pub fn open(asked: &Backend, memory: Arc<Memory>) -> anyhow::Result<Vec<Arc<dyn Device>>> {
    let measure = match &asked.gpu {
        GpuChoice::Named(_) => false,
        GpuChoice::Auto | GpuChoice::All if asked.may_choose_gpu() => true,
        _ => return Ok(asked.find_all()?),
    };
    let known = memory.survey();
    if known.choose(&asked.gpu).is_ok_and(|chosen| !chosen.is_empty()) {
        match asked.open(&known, memory.clone()) {
            // It has changed since.
            Err(NnError::Device(_)) => {}
            ended => return Ok(ended?),
        }
    }
    match take(measure, &known) {
        Ok(survey) => {
            memory.keep(&survey);
            let devices = asked.open(&survey, memory)?;
            if measure && devices[0].health().is_none() {
                say!("note: using the CPU: {}", survey.why_none());
            }
            Ok(devices)
        }
        Err(why) if measure => {
            say!("warning: {why}; using the CPU");
            Ok(Backend { gpu: GpuChoice::None, ..asked.clone() }.find_all()?)
        }
        Err(why) => Err(Hinted::usage(why, "update the GPU's driver, or use the CPU with --gpu none")),
    }
}

/// What earlier processes that kept their data in this folder learned of GPUs.
///
/// # Errors
/// If there is not even a CPU.
pub fn memory(data_dir: Option<PathBuf>) -> Result<Arc<Memory>, NnError> {
    let file = data_dir.map(|folder| folder.join(FILE));
    Ok(Arc::new(Memory::open(file.as_deref(), &Backend::default().find()?.to_string())))
}

/// The GPUs of this machine, by a process of its own, and how fast those are that are not `known`, if that is to be measured.
///
/// # Errors
/// A sentence, if that process dies or does not end.
pub fn take(measure: bool, known: &Survey) -> Result<Survey, String> {
    let failed = |why: &dyn std::fmt::Display| format!("asking the GPU drivers failed ({why})");
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.arg(COMMAND).args(measure.then_some("--measure"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may be dead already, which is seen below.
        _ = stdin.write_all(serde_json::to_string(known).map_err(|error| failed(&error))?.as_bytes());
    }
    let mut stdout = child.stdout.take().ok_or_else(|| failed(&"no output"))?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => sleep(Duration::from_millis(5)),
            ended => {
                _ = child.kill();
                _ = child.wait();
                return Err(match ended {
                    Err(error) => failed(&error),
                    Ok(_) => failed(&format!("no answer in {} s", PATIENCE.as_secs())),
                });
            }
        }
    };
    let text = reader.join().ok().and_then(Result::ok).unwrap_or_default();
    if !status.success() {
        return Err(failed(&status));
    }
    serde_json::from_str(&text).map_err(|error| failed(&error))
}
