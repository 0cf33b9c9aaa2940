//! `enlarger`: enlarges images, on the command line and as a service.

/// Writes a line to standard error. Where that is a file on a full disk, or nobody reads it any more, the line is lost, and nothing
/// else: `eprintln!` would panic.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod admin;
mod apart;
mod arguments;
mod bench;
mod dirs;
mod doctor;
mod freed;
mod generative;
mod gpus;
mod inputs;
mod job;
mod keys;
mod machine;
mod mcp;
mod models;
mod paths;
mod printer;
mod read;
mod results;
mod scan;
mod search;
mod serve;
mod shell;
mod signals;
mod style;
mod target;
mod upscale;
mod watch;
mod write;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Enlarge images up to 16x, on this machine.
///
/// Exit codes: 0 success; 1 at least one image failed (the rest were written); 2 usage error; 129, 130, 131 and 143
/// stopped by SIGHUP, Ctrl-C, SIGQUIT and SIGTERM (no half-written file is left).
#[derive(Debug, Parser)]
#[command(name = "enlarger", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // What has arguments is described where they are.
    Upscale(Box<upscale::UpscaleArgs>),
    Watch(Box<watch::WatchArgs>),
    Serve(Box<serve::ServeArgs>),
    Keys(keys::KeysArgs),
    Admin(admin::AdminArgs),
    /// Print the API specification (OpenAPI 3.1).
    Openapi,
    Models(models::ModelsArgs),
    Mcp(mcp::McpArgs),
    Doctor(doctor::DoctorArgs),
    Bench(bench::BenchArgs),
    Completions(shell::CompletionsArgs),
    #[command(hide = true)]
    Man(shell::ManArgs),
    #[command(name = enlarger_server::APART_COMMAND, hide = true)]
    Apart(Box<apart::ApartArgs>),
    #[command(name = gpus::COMMAND, hide = true)]
    Gpus(gpus::SurveyArgs),
}

fn main() -> ExitCode {
    end_where_output_cannot_be_written();
    let result = match arguments::parse::<Cli>().command {
        Command::Upscale(args) => upscale::run(*args),
        Command::Watch(args) => watch::run(*args),
        Command::Serve(args) => serve::run(*args),
        Command::Keys(args) => keys::run(args),
        Command::Admin(args) => admin::run(args),
        Command::Openapi => {
            println!("{:#}", enlarger_server::openapi::document());
            Ok(ExitCode::SUCCESS)
        }
        Command::Models(args) => models::run(args),
        Command::Mcp(args) => mcp::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => Ok(shell::completions(&args, &Cli::command())),
        Command::Man(args) => shell::man(&args, Cli::command()),
        Command::Apart(args) => apart::run(*args),
        Command::Gpus(args) => gpus::run(&args),
    };
    result.unwrap_or_else(|error| {
        printer::error(&error);
        ExitCode::from(printer::code_of(&error))
    })
}

/// `enlarger models list | head` must end quietly, as other programs do, not with a panic about a closed pipe; and a full disk under a
/// result on standard output is an error like others.
fn end_where_output_cannot_be_written() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.contains("Broken pipe") {
            signals::remove_unfinished();
            std::process::exit(0);
        }
        // As `println` words it.
        if let Some(why) = text.strip_prefix("failed printing to stdout: ") {
            say!("error: cannot write to standard output: {}", printer::without_number(why));
            signals::remove_unfinished();
            std::process::exit(1);
        }
        let place = panic.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        say!("internal error{place}: {text}");
        say!("hint: this is a bug in enlarger; please report it, with the image if you can share it");
    }));
}
