//! `enlarger survey-gpus`: what other commands start to learn of GPUs. Drivers crash and hang; here they take nothing with them.
//! Not for people, and so in no help.

use std::{
    io::Read,
    process::{Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use enlarger_nn::{
    Backend, GpuChoice,
    devices::{Survey, gpu::survey},
};

/// The subcommand that [`take`] starts.
pub const COMMAND: &str = "survey-gpus";
/// A driver that has not answered by then hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints a survey as JSON.
pub fn run() -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string(&survey(&Backend::default().find()?))?);
    Ok(ExitCode::SUCCESS)
}

/// The fastest GPU if it is faster than the CPU. If the drivers crash, it is none, with a warning.
pub fn fastest() -> GpuChoice {
    match take() {
        Ok(survey) => survey.best().map_or(GpuChoice::None, |best| GpuChoice::Named(best.to_ask_for())),
        Err(why) => {
            eprintln!("warning: {why}; using the CPU");
            GpuChoice::None
        }
    }
}

/// The GPUs of this machine, by a process of its own.
///
/// # Errors
/// A sentence, if that process dies or does not end.
pub fn take() -> Result<Survey, String> {
    let failed = |why: &dyn std::fmt::Display| format!("asking the GPU drivers failed ({why})");
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.arg(COMMAND).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(&error))?;
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
