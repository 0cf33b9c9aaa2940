//! What shells and `man` are told about the commands.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::{Shell, generate};

/// Print a completion script for a shell.
///
/// For example, `enlarger completions bash > ~/.local/share/bash-completion/completions/enlarger`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to complete commands in.
    shell: Shell,
}

/// Write man pages, one for each command.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write to; it is created if needed.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints a completion script for the whole command.
pub fn completions(args: &CompletionsArgs, command: &Command) -> ExitCode {
    let mut script = Vec::new();
    generate(args.shell, &mut offered(command), "enlarger", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// The command without what nobody is to type.
fn offered(command: &Command) -> Command {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new("enlarger")
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(shown)
}

/// The command with a long help for each argument: man pages leave the short help out where `-h` does.
fn explained(command: Command) -> Command {
    let command = command.mut_args(|arg| match (arg.get_help().cloned(), arg.get_long_help()) {
        (Some(help), None) => arg.long_help(help),
        _ => arg,
    });
    command.mut_subcommands(explained)
}

/// Writes man pages for the command and its subcommands.
pub fn man(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    let folder = args.folder.display();
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot create {folder}"))?;
    clap_mangen::generate_to(explained(command), &args.folder).with_context(|| format!("cannot write to {folder}"))?;
    Ok(ExitCode::SUCCESS)
}
