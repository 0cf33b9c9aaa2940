//! `enlarger serve` and `enlarger worker`.

use std::{io::IsTerminal, net::SocketAddr, num::NonZeroUsize, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::Args;
use enlarger_nn::Backend;
use enlarger_pipeline::{Enlarger, EnlargerOptions};
use enlarger_server::{Config, ConfigLayer, config::Role};
use tokio::{net::TcpListener, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    dirs,
    machine::{IsaArgs, warn_of_threads},
    printer::Hinted,
};

/// Answer the API, run the tasks and show the page.
///
/// Settings come from a file, the environment and flags; the later goes before the earlier.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A file of settings (TOML).
    #[arg(long, value_name = "FILE", env = "ENLARGER_CONFIG")]
    config: Option<PathBuf>,
    /// Print the default settings as a commented file, and end.
    #[arg(long)]
    print_config: bool,
    /// What is logged, to standard error: error, warn, info, debug, or a filter such as `enlarger_server=debug`.
    #[arg(long, value_name = "LEVEL", env = "ENLARGER_LOG", default_value = "info")]
    log: String,
    /// Log one JSON object per line.
    #[arg(long, env = "ENLARGER_LOG_JSON")]
    log_json: bool,
    #[command(flatten)]
    isa: IsaArgs,
    #[command(flatten)]
    settings: ConfigLayer,
}

/// Serves until interrupted.
pub fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    if args.print_config {
        print!("{}", enlarger_server::print_config());
        return Ok(ExitCode::SUCCESS);
    }
    let config = load(args.settings, args.config)?;
    let backend = args.isa.backend(config.precision)?;
    log_to_stderr(&args.log, args.log_json)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config, backend))?;
    Ok(ExitCode::SUCCESS)
}

/// Settings, with the data directory filled in.
pub fn load(settings: ConfigLayer, file: Option<PathBuf>) -> anyhow::Result<Config> {
    let mut config = Config::load(settings, file.as_deref()).map_err(hinted)?;
    if config.data_dir.as_os_str().is_empty() {
        config.data_dir = dirs::data_dir().ok_or_else(|| {
            Hinted::error("there is no home folder to keep tasks and files in", "name a folder with --data-dir")
        })?;
    }
    Ok(config)
}

fn hinted(error: enlarger_server::ConfigError) -> anyhow::Error {
    Hinted::error(error.what, error.hint)
}

fn log_to_stderr(level: &str, json: bool) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level)
        .map_err(|e| Hinted::error(format!("`--log {level}` cannot be understood: {e}"), "for example `--log info`"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if json {
        subscriber.json().flatten_event(true).init();
    } else {
        subscriber.with_target(false).init();
    }
    Ok(())
}

async fn serve(config: Config, backend: Backend) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    tokio::spawn(on_signal(stop.clone()));
    let listener = TcpListener::bind(config.listen).await.map_err(|error| in_use(config.listen, &error))?;
    let address = listener.local_addr()?;
    let options = EnlargerOptions {
        threads: NonZeroUsize::new(config.threads),
        models_dir: Some(config.data_dir.join("models")),
        tile: None,
        backend,
    };
    warn_of_threads(options.threads);
    let enlarger = Arc::new(Enlarger::new(options)?);
    announce(&config, address);
    enlarger_server::serve(config, enlarger, listener, stop).await.map_err(|error| match error {
        enlarger_server::ServeError::Config(error) => hinted(error),
        other => other.into(),
    })
}

fn announce(config: &Config, address: SocketAddr) {
    let local = format!("http://{address}");
    let url = if config.public_url.is_empty() { local.as_str() } else { config.public_url.trim_end_matches('/') };
    eprintln!("enlarger {} keeps its tasks and files in {}", env!("CARGO_PKG_VERSION"), config.data_dir.display());
    if url != local {
        eprintln!("Listening on {local}");
    }
    match config.role {
        Role::Worker => eprintln!("Working; health and metrics at {url}"),
        Role::All | Role::Api => {
            eprintln!("Open {url}");
            eprintln!("API  {url}/v1/ai/image-upscaler, described at {url}/docs/api");
        }
    }
    if config.asks_for_credentials() {
        eprintln!("Credentials are asked for: make a key with `enlarger keys create NAME`");
    }
    if config.insecure_no_auth {
        eprintln!("warning: everybody who can reach {address} can use this server");
    }
}

fn in_use(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program listens there, perhaps another enlarger; choose another port with --listen"
        }
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need rights; choose another with --listen",
        _ => "check the address given to --listen",
    };
    Hinted::error(format!("cannot listen on {address}: {error}"), hint)
}

/// The first signal drains, the second ends at once.
async fn on_signal(stop: CancellationToken) {
    if wait_for_signal().await.is_err() {
        return;
    }
    eprintln!("Stopping: running tasks are finished or given back. Press Ctrl-C again to end at once.");
    stop.cancel();
    if wait_for_signal().await.is_ok() {
        std::process::exit(130);
    }
}

#[cfg(unix)]
async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate()).context("SIGTERM")?;
    tokio::select! {
        result = signal::ctrl_c() => result.context("Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() -> anyhow::Result<()> {
    signal::ctrl_c().await.context("Ctrl-C")
}
