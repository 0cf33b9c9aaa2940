//! `enlarger serve`.

use std::{
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use enlarger_nn::{Device, GpuChoice};
use enlarger_pipeline::{Enlarger, EnlargerOptions, Lane, human_bytes};
use enlarger_server::{Config, ConfigLayer, config::Role};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    dirs, freed, gpus,
    machine::{GpuArgs, IsaArgs, warn_of_threads},
    printer::Hinted,
    signals::Signals,
};

/// Start the server: API, job queue and web page.
///
/// Settings come from a file, the environment and flags; later sources override earlier ones.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Configuration file (TOML) [default: enlarger/config.toml in the user's folder of settings, if it exists].
    #[arg(long, value_name = "FILE", env = "ENLARGER_CONFIG")]
    config: Option<PathBuf>,
    /// Print a commented default configuration and exit.
    #[arg(long)]
    print_config: bool,
    /// Log level on standard error: error, warn, info, debug, or a filter such as `info,enlarger_service=debug`.
    #[arg(long, value_name = "LEVEL", env = "ENLARGER_LOG", default_value = "info")]
    log: String,
    /// Log one JSON object per line.
    #[arg(long, env = "ENLARGER_LOG_JSON")]
    log_json: bool,
    /// Port to listen on, on the host of --listen.
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
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
    freed::goes_back();
    let file = args.config.or_else(dirs::config_file);
    let mut config = load(args.settings, file.as_deref())?;
    if let Some(port) = args.port {
        config.listen = config.listen.on_port(port);
    }
    // Who only answers needs no GPU.
    let gpu = if config.role == Role::Api { GpuChoice::None } else { asked(&config.gpu)? };
    let lanes = lanes(&args.isa, &config, gpu)?;
    log_to_stderr(&args.log, args.log_json)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config, file, lanes))?;
    // A checkpoint that is being read for its hash would be waited for.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

fn asked(gpu: &str) -> anyhow::Result<GpuChoice> {
    let hint = "none, auto, all, part of a GPU's name, or pci: and its address";
    gpu.parse().map_err(|why| Hinted::usage(format!("`gpu` is {gpu:?}: {why}"), hint))
}

/// What jobs run on: GPUs, the fastest first, or the CPU; or both.
fn lanes(isa: &IsaArgs, config: &Config, gpu: GpuChoice) -> anyhow::Result<Vec<Lane>> {
    let memory = gpus::memory(Some(config.data_dir.clone()))?;
    let gpu_memory = Some(config.gpu_memory);
    let devices = |gpu| isa.clone().devices(config.precision, GpuArgs { gpu, gpu_memory }, memory.clone());
    let mut found = devices(gpu)?;
    if config.cpu_beside_gpu && found[0].health().is_some() {
        found.extend(devices(GpuChoice::None)?);
    }
    let slots = |device: &dyn Device| if device.health().is_some() { config.gpu_jobs } else { config.jobs };
    Ok(found.into_iter().map(|device| Lane { slots: slots(&*device), device }).collect())
}

/// Settings, with the data directory filled in.
pub fn load(settings: ConfigLayer, file: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = Config::load(settings, file)?;
    if config.data_dir.as_os_str().is_empty() {
        config.data_dir = dirs::data_dir().ok_or_else(|| {
            Hinted::error("no home folder found for jobs and files", "choose a folder with --data-dir")
        })?;
    }
    Ok(config)
}

fn log_to_stderr(level: &str, json: bool) -> anyhow::Result<()> {
    // They note every repeated request and each wait for a connection, and we note what came of them.
    let filter = EnvFilter::try_new(format!("object_store=warn,sqlx::postgres::notice=warn,sqlx::pool=error,{level}"))
        .map_err(|e| {
            Hinted::usage(format!("invalid log level or filter `{level}`: {e}"), "for example `--log info`")
        })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say so where lines cannot be written, and panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    if json {
        subscriber.json().flatten_event(true).init();
    } else {
        subscriber.with_target(false).init();
    }
    Ok(())
}

async fn serve(config: Config, file: Option<PathBuf>, lanes: Vec<Lane>) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    tokio::spawn(on_signal(Signals::listen()?, config.drain_seconds, stop.clone()));
    let listener = TcpListener::bind(*config.listen).await.map_err(|error| in_use(*config.listen, &error))?;
    let address = listener.local_addr()?;
    let options = EnlargerOptions {
        threads: NonZeroUsize::new(config.threads),
        models_dir: Some(config.data_dir.join("models")),
        strip: None,
        lanes,
        model_dirs: config.model_dirs.clone(),
        own_requests: false,
        generative: config.generative(),
        generator: config.remote(),
    };
    warn_of_threads(options.threads);
    let gpus: Vec<String> = options
        .lanes
        .iter()
        .map(|lane| &lane.device)
        .filter(|device| device.health().is_some())
        .map(ToString::to_string)
        .collect();
    let enlarger = Arc::new(Enlarger::new(options)?);
    let ready = |id: &str| announce(&config, file.as_deref(), &gpus, address, id);
    Ok(enlarger_server::serve(config.clone(), enlarger, listener, ready, stop).await?)
}

fn announce(config: &Config, file: Option<&Path>, gpus: &[String], address: SocketAddr, id: &str) {
    let urls = match config.public_url.trim_end_matches('/') {
        "" => reachable(address),
        url => vec![url.to_owned()],
    };
    let url = &urls[0];
    say!("enlarger {} · data in {}", env!("CARGO_PKG_VERSION"), config.data_dir.display());
    if let Some(file) = file {
        say!("Settings from {}", file.display());
    }
    if !gpus.is_empty() {
        say!("Running on {}", gpus.join(", "));
    }
    say!("Results are kept {}", kept(config));
    if !config.save_to.as_os_str().is_empty() {
        say!("Results are also saved to {}", config.save_to.display());
    }
    if !config.public_url.is_empty() && config.role != Role::Worker {
        say!("Listening on http://{address}");
    }
    if !config.database.reveal().is_empty() {
        say!("This process is {id} for `enlarger admin`");
    }
    match config.role {
        Role::Worker => say!("Running jobs; health and metrics at http://{address}"),
        Role::All | Role::Api => {
            say!("Open {}", urls.join(", or from another machine "));
            say!("API docs: {url}/docs/api");
        }
    }
    if !config.relay.is_empty() && config.role != Role::Api {
        say!("Requests of {} go to {}, with their images", config.relay_kinds.join(" and "), config.relay);
    }
    if config.asks_for_credentials() {
        let place = if dirs::data_dir().is_some_and(|usual| usual == config.data_dir) {
            String::new()
        } else {
            format!(" --data-dir {}", config.data_dir.display())
        };
        say!("An API key is required. Create one with `enlarger keys{place} create NAME`");
    }
    if config.insecure_no_auth {
        say!("warning: anyone who can reach {address} can use this server");
    }
}

/// How long results are kept.
fn kept(config: &Config) -> String {
    match (config.retention(), config.disk_budget()) {
        (Some(time), _) => match time.as_secs() / 3600 {
            1 => "for an hour".into(),
            hours => format!("for {hours} hours"),
        },
        (None, Some(bytes)) => format!("until you delete them or they exceed {}", human_bytes(bytes)),
        (None, None) => "until you delete them".into(),
    }
}

/// Addresses that a browser can open, which "every network" is not. The first is for this machine.
fn reachable(listening: SocketAddr) -> Vec<String> {
    let port = listening.port();
    if !listening.ip().is_unspecified() {
        return vec![format!("http://{listening}")];
    }
    let here = format!("http://localhost:{port}");
    let there = outward_address().map(|ip| format!("http://{}", SocketAddr::new(ip, port)));
    [here].into_iter().chain(there).collect()
}

/// This machine's address in the network by which it would reach others, if there is one. Nothing is sent: to connect a UDP
/// socket only chooses a route. The address is one that belongs to nobody (RFC 5737).
fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn in_use(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program, perhaps another enlarger, is using it; choose another port with --port"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need administrator rights; choose another port with --port"
        }
        _ => "check the address given to --listen",
    };
    Hinted::error(format!("cannot listen on {address}: {error}"), hint)
}

/// How much longer than it waits for jobs a process may take to end, if storage or database hang. Kubernetes and others kill it soon.
const LINGERS: Duration = Duration::from_secs(5);

/// The first signal drains, the second ends the process immediately, as waiting too long does.
async fn on_signal(mut signals: Signals, drain_seconds: u64, stop: CancellationToken) {
    let first = signals.next().await;
    say!("Shutting down, waiting up to {drain_seconds} s for running jobs. Press Ctrl-C again to quit now.");
    stop.cancel();
    let most = Duration::from_secs(drain_seconds) + LINGERS;
    let last = tokio::time::timeout(most, signals.next()).await.unwrap_or_else(|_| {
        say!("warning: the database or the storage does not answer; quitting. Other processes take over what is not done.");
        first
    });
    std::process::exit(last.exit_code().into());
}
