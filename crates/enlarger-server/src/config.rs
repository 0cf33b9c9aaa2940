//! Settings: flags override the environment, which overrides the file. One table generates all three and their
//! documentation.

use std::{
    borrow::Cow,
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    ops::Deref,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{Args, Command, ValueEnum};
use enlarger_egress::{EgressError, Policy, Secret, Webhooks};
use enlarger_error::Explained;
use enlarger_nn::Precision;
use enlarger_pipeline::{Generative, Lora, NamePattern, RemoteGenerator};
use enlarger_service::{
    job::{Kind, Terms},
    relay::{Budget, Patience, Relay},
    traces::Traces,
};
use serde::{Deserialize, Serialize, de::IntoDeserializer};

/// An invalid setting, with a hint.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ConfigError {
    /// What is wrong and why.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl ConfigError {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

impl Explained for ConfigError {
    fn code(&self) -> &'static str {
        "config"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(self.hint.as_str().into())
    }
}

/// Declares every setting once: as a field of [`ConfigLayer`] (file, environment, flag) and of [`Config`] (resolved).
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $env:literal $({ $($arg:tt)* })?;)+) => {
        /// Settings from one source.
        #[derive(Debug, Clone, Default, Deserialize, Args)]
        #[serde(deny_unknown_fields)]
        #[group(skip)]
        pub struct ConfigLayer {
            $($(#[doc = $doc])+ #[arg(long, env = $env, hide_env_values = true $(, $($arg)*)?)] pub $name: Option<$type>,)+
        }

        /// All settings.
        #[derive(Debug, Clone, Serialize)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl ConfigLayer {
            /// These settings, completed by those of another layer.
            fn over(self, below: Self) -> Self {
                Self { $($name: self.$name.or(below.$name),)+ }
            }

            /// These settings, completed by the defaults.
            fn or_default(self) -> Config {
                Config { $($name: self.$name.unwrap_or_else(|| $default),)+ }
            }
        }
    };
}

settings! {
    /// Address to listen on: `HOST:PORT`, a host or a port, such as `0.0.0.0` (all interfaces) or `7788`.
    listen: Listen = Listen::default(), "ENLARGER_LISTEN" { value_name = "ADDRESS" };
    /// Where to store jobs and files. Empty: the platform's folder for application data.
    data_dir: PathBuf = PathBuf::new(), "ENLARGER_DATA_DIR" { value_name = "DIR" };
    /// Database of jobs and API keys, for several machines: `postgres://USER:PASSWORD@HOST/NAME`. Empty: a SQLite file in
    /// `data_dir`.
    database: Hidden = Hidden::default(), "ENLARGER_DATABASE" { value_name = "URL" };
    /// Where to store images and results: `s3://BUCKET/PREFIX`, a bucket at Amazon S3 or a compatible server. Options:
    /// `?endpoint=URL&region=NAME&path_style=true`. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or
    /// the machine's role. Empty: in `data_dir`.
    storage: String = String::new(), "ENLARGER_STORAGE" { value_name = "URL" };
    /// Redirect downloads of results to presigned URLs of the bucket, instead of passing the bytes through. Clients must be
    /// able to reach its endpoint.
    storage_redirect: bool = false, "ENLARGER_STORAGE_REDIRECT" { num_args = 0..=1, default_missing_value = "true" };
    /// Secret of at least 32 characters that signs the URLs of files. All processes of a service need the same. Empty: the
    /// file `signing.key` in `data_dir`, which is made if needed.
    signing_secret: Hidden = Hidden::default(), "ENLARGER_SIGNING_SECRET" { value_name = "SECRET" };
    /// Process role: `all`, `api` (accepts jobs only) or `worker` (runs jobs only).
    role: Role = Role::All, "ENLARGER_ROLE" { value_enum };
    /// Public base URL of this server, used for URLs in responses; may include a path. Empty: taken from the Host
    /// header of each request.
    public_url: String = String::new(), "ENLARGER_PUBLIC_URL" { value_name = "URL" };
    /// Trust X-Forwarded-Proto, X-Forwarded-Host and X-Forwarded-Prefix. Enable only behind a proxy that sets them.
    trust_forwarded: bool = false, "ENLARGER_TRUST_FORWARDED" { num_args = 0..=1, default_missing_value = "true" };
    /// Require credentials: `auto` (unless listening on a loopback address), `on` or `off`.
    auth: Auth = Auth::Auto, "ENLARGER_AUTH" { value_enum };
    /// Allow unauthenticated access on a non-loopback address. Anyone who can connect can use the server.
    insecure_no_auth: bool = false, "ENLARGER_INSECURE_NO_AUTH" { num_args = 0..=1, default_missing_value = "true" };
    /// Also accept bearer tokens (JWT) signed with this HS256 secret.
    jwt_secret: Hidden = Hidden::default(), "ENLARGER_JWT_SECRET" { value_name = "SECRET" };
    /// Also accept bearer tokens (JWT) signed by a key of the JSON Web Key Set at this https URL.
    jwks_url: String = String::new(), "ENLARGER_JWKS_URL" { value_name = "URL" };
    /// Required `aud` claim of bearer tokens. Empty: not checked.
    jwt_audience: String = String::new(), "ENLARGER_JWT_AUDIENCE" { value_name = "TEXT" };
    /// Required `iss` claim of bearer tokens. Empty: not checked.
    jwt_issuer: String = String::new(), "ENLARGER_JWT_ISSUER" { value_name = "TEXT" };
    /// How many images to enlarge at once on the CPU. A single job already uses all threads; a higher number helps only with
    /// many small images.
    jobs: usize = 1, "ENLARGER_JOBS" { value_name = "N" };
    /// Threads per job. 0: one per core.
    threads: usize = 0, "ENLARGER_THREADS" { value_name = "N" };
    /// Arithmetic: `auto` (fastest), `f32`, `int16` (x86 CPUs) or `bf16` (CPUs with AMX).
    precision: Precision = Precision::Auto, "ENLARGER_PRECISION" { value_parser = precision };
    /// GPU to run models on: `none`, `auto` (the fastest, if it is faster than the CPU), `all` (each that is), part of its name, or
    /// `pci:` and its address; several with commas.
    gpu: String = "none".to_owned(), "ENLARGER_GPU" { value_name = "GPU" };
    /// Maximum GPU memory to use, in MB. 0: 70% of dedicated memory, or 25% of memory shared with the CPU.
    gpu_memory: u64 = 0, "ENLARGER_GPU_MEMORY" { value_name = "MB", value_parser = megabytes, allow_hyphen_values = true };
    /// How many images to enlarge at once on each GPU: while one is computed, others are decoded or encoded.
    gpu_jobs: usize = 2, "ENLARGER_GPU_JOBS" { value_name = "N" };
    /// Also enlarge images on the CPU when GPUs are used, `jobs` at once. Those images take longer than on a GPU.
    cpu_beside_gpu: bool = false, "ENLARGER_CPU_BESIDE_GPU" { num_args = 0..=1, default_missing_value = "true" };
    /// Seconds without a heartbeat before a worker's job is reassigned.
    lease_seconds: u64 = 30, "ENLARGER_LEASE_SECONDS" { value_name = "S" };
    /// Grace period in seconds for running jobs at shutdown; unfinished jobs return to the queue.
    drain_seconds: u64 = 25, "ENLARGER_DRAIN_SECONDS" { value_name = "S" };
    /// Maximum number of waiting jobs in total.
    queue_limit: u64 = 10_000, "ENLARGER_QUEUE_LIMIT" { value_name = "N" };
    /// Maximum number of waiting jobs per API key.
    key_queue_limit: u64 = 1_000, "ENLARGER_KEY_QUEUE_LIMIT" { value_name = "N" };
    /// Requests per second allowed per API key; bursts may be twice as large.
    requests_per_second: u32 = 50, "ENLARGER_REQUESTS_PER_SECOND" { value_name = "N" };
    /// Largest request body, in MB.
    max_body_mb: u64 = 128, "ENLARGER_MAX_BODY_MB" { value_name = "MB" };
    /// Largest uploaded file, in MB.
    max_upload_mb: u64 = 256, "ENLARGER_MAX_UPLOAD_MB" { value_name = "MB" };
    /// Largest source image, in megapixels.
    max_source_megapixels: u64 = 64, "ENLARGER_MAX_SOURCE_MEGAPIXELS" { value_name = "MP" };
    /// Largest result on the page and under `/api/`, in megapixels. 0: as large as memory allows. Vendor-compatible
    /// routes keep the vendor's limits.
    max_result_megapixels: u64 = 0, "ENLARGER_MAX_RESULT_MEGAPIXELS" { value_name = "MP" };
    /// Maximum number of large bodies read at once; others wait briefly, then get 503 with Retry-After.
    bodies_at_once: usize = 64, "ENLARGER_BODIES_AT_ONCE" { value_name = "N" };
    /// Hours to keep a finished job's files, or `keep`: until they are deleted or `disk_budget_mb` is reached. `auto`:
    /// `keep` if `listen` is a loopback address and `role` is `all`, else 24.
    retention_hours: Retention = Retention::Auto, "ENLARGER_RETENTION_HOURS" { value_name = "H" };
    /// Disk budget in MB for the files of all jobs when finished ones are kept. Beyond it, the jobs that finished first
    /// are deleted; the latest always stays. 0: no limit.
    disk_budget_mb: u64 = 51_200, "ENLARGER_DISK_BUDGET_MB" { value_name = "MB" };
    /// Folder to also save each result to, under a name for people. Empty: none. Copies are never deleted.
    save_to: PathBuf = PathBuf::new(), "ENLARGER_SAVE_TO" { value_name = "DIR" };
    /// Names of results in `save_to`, with `{stem}`, `{scale}`, `{width}`, `{height}` and `{ext}`.
    save_name: NamePattern = NamePattern::default(), "ENLARGER_SAVE_NAME" { value_name = "PATTERN" };
    /// Days to remember a job after its files are deleted.
    history_days: u64 = 30, "ENLARGER_HISTORY_DAYS" { value_name = "D" };
    /// Hours to keep an uploaded file for later jobs.
    upload_hours: u64 = 24, "ENLARGER_UPLOAD_HOURS" { value_name = "H" };
    /// Webhook signing secrets, comma-separated. List both while rotating.
    webhook_secret: Vec<Hidden> = Vec::new(), "ENLARGER_WEBHOOK_SECRET" { value_name = "SECRET", value_delimiter = ',' };
    /// Private networks the server may fetch images from and send webhooks to, such as `192.168.0.0/16`.
    allow_net: Vec<ipnet::IpNet> = Vec::new(), "ENLARGER_ALLOW_NET" { value_name = "CIDR", value_delimiter = ',' };
    /// Folders with Stable Diffusion checkpoints and what goes with them, such as the `models` folder of ComfyUI or A1111
    /// (AUTOMATIC1111's web UI), for the generative engine.
    model_dirs: Vec<PathBuf> = Vec::new(), "ENLARGER_MODEL_DIRS" { value_name = "DIR", value_delimiter = ',' };
    /// Checkpoint for the generative engine, used by creative jobs that have a prompt or creativity above 0: a name that
    /// `enlarger models scan` lists. Empty: only jobs that specify a checkpoint use the engine.
    checkpoint: String = String::new(), "ENLARGER_CHECKPOINT" { value_name = "NAME" };
    /// ControlNet that keeps results close to the source, or `none`. Empty: a tile ControlNet for the checkpoint's family, if
    /// one is found.
    control: String = String::new(), "ENLARGER_CONTROL" { value_name = "NAME" };
    /// VAE to use instead of the checkpoint's.
    vae: String = String::new(), "ENLARGER_VAE" { value_name = "NAME" };
    /// LoRAs to add, with their strengths, such as `more_details:0.5`.
    loras: Vec<String> = Vec::new(), "ENLARGER_LORAS" { value_name = "NAME:N", value_delimiter = ',' };
    /// External program that draws new detail instead of this server's own generative engine, for creative jobs with a prompt or creativity above 0: a running ComfyUI, as
    /// `comfyui=http://HOST:PORT`. `checkpoint` and `control` then refer to ComfyUI's models.
    generator: String = String::new(), "ENLARGER_GENERATOR" { value_name = "comfyui=URL" };
    /// Workflow for ComfyUI to run, in its API format. Empty: the bundled one, for SD 1.x, SD 2.x and SDXL.
    workflow: PathBuf = PathBuf::new(), "ENLARGER_WORKFLOW" { value_name = "FILE" };
    /// Service that enlarges instead of this machine, for the requests of `relay_kinds`: the vendor's own, such as
    /// `https://api.magnific.com`. Their images are sent there.
    relay: String = String::new(), "ENLARGER_RELAY" { value_name = "URL" };
    /// File with the API key for `relay`.
    relay_key_file: PathBuf = PathBuf::new(), "ENLARGER_RELAY_KEY_FILE" { value_name = "FILE" };
    /// Requests that go to `relay`: `creative`, `precision-v2` or both.
    relay_kinds: Vec<String> = vec!["creative".to_owned()], "ENLARGER_RELAY_KINDS" { value_name = "KIND", value_delimiter = ',' };
    /// What may be ordered from `relay` on a day (UTC) in all, in megapixels of results, since it bills by size.
    relay_daily_megapixels: u64 = 0, "ENLARGER_RELAY_DAILY_MEGAPIXELS" { value_name = "MP" };
    /// The same for each API key. 0: no limit of its own.
    relay_key_daily_megapixels: u64 = 0, "ENLARGER_RELAY_KEY_DAILY_MEGAPIXELS" { value_name = "MP" };
    /// Collector to send traces of jobs to, by OTLP over HTTP, such as `http://127.0.0.1:4318`. Empty: none.
    otlp: String = String::new(), "ENLARGER_OTLP" { value_name = "URL" };
    /// Origins allowed to call this server from a browser (CORS), such as `https://example.com`; `*` for all.
    cors_origin: Vec<String> = Vec::new(), "ENLARGER_CORS_ORIGIN" { value_name = "ORIGIN", value_delimiter = ',' };
}

fn no_collector(error: EgressError) -> ConfigError {
    ConfigError::new(format!("`otlp` cannot be used: {error}"), "for example --otlp http://127.0.0.1:4318")
}

/// An address to listen on, resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Listen {
    const PORT: u16 = 7788;

    /// The same host on another port.
    pub fn on_port(self, port: u16) -> Self {
        Self(SocketAddr::new(self.ip(), port))
    }
}

/// Only this machine can connect.
impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Self::PORT))
    }
}

impl Deref for Listen {
    type Target = SocketAddr;

    fn deref(&self) -> &SocketAddr {
        &self.0
    }
}

impl FromStr for Listen {
    type Err = String;

    /// `HOST:PORT`, `HOST`, `PORT` or `:PORT`, which is every network, as in `*:PORT`. Names are looked up; of several
    /// addresses the first is taken, and an IPv4 one before others, since our messages call `localhost` 127.0.0.1.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self::default().on_port(port));
        }
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Self(SocketAddr::new(ip, Self::PORT)));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (text, Some(Self::PORT)),
        };
        let usage =
            || format!("expected HOST:PORT, a host or a port, such as localhost:{}, 0.0.0.0 or 8080", Self::PORT);
        let port: u16 = port.ok_or_else(usage)?;
        if host == "*" || (host.is_empty() && !text.is_empty()) {
            return Ok(Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)));
        }
        if let Some(ip) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let ip: Ipv6Addr = ip.parse().map_err(|_| usage())?;
            return Ok(Self(SocketAddr::new(ip.into(), port)));
        }
        // Systems read a bare number as an old form of an IPv4 address.
        if host.contains([':', '/', ' ']) || host.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(usage());
        }
        let found: Vec<SocketAddr> = (host, port)
            .to_socket_addrs()
            .map_err(|_| format!("cannot resolve the host {host:?}; {}", usage()))?
            .collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.map(|address| Self(*address)).ok_or_else(usage)
    }
}

impl Serialize for Listen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// In a file, a port is usually a number.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Word {
            Port(u16),
            Text(String),
        }
        match Word::deserialize(deserializer)? {
            Word::Port(port) => Ok(Self::default().on_port(port)),
            Word::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A precision as the file spells it.
fn precision(word: &str) -> Result<Precision, serde::de::value::Error> {
    Precision::deserialize(word.into_deserializer())
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    All,
    /// Answers requests.
    Api,
    /// Runs jobs and sends webhooks.
    Worker,
}

impl Role {
    /// Its word in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }
}

/// Whether credentials are required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// On unless listening on a loopback address.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How long the files of finished tasks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// `Keep` where only this machine can connect, else 24 hours.
    Auto,
    /// Until they are deleted, or the disk budget is reached.
    Keep,
    /// So many hours.
    Hours(u64),
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "keep" => Ok(Self::Keep),
            number => {
                number.parse().map(Self::Hours).map_err(|_| format!("`{text}` is not auto, keep or a number of hours"))
            }
        }
    }
}

impl Serialize for Retention {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Keep => serializer.serialize_str("keep"),
            Self::Hours(hours) => serializer.serialize_u64(*hours),
        }
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A secret: printed nowhere.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "set" })
    }
}

impl Serialize for Hidden {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("")
    }
}

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Config {
    /// Flags and environment (which the command line parser has merged) over the file, over the defaults.
    ///
    /// # Errors
    /// If the file cannot be read, names an unknown key, or settings contradict each other.
    pub fn load(above: ConfigLayer, file: Option<&Path>) -> Result<Self, ConfigError> {
        let below = file.map(read).transpose()?.unwrap_or_default();
        let config = above.over(below).or_default();
        config.check()?;
        Ok(config)
    }

    /// Whether credentials are required.
    pub fn asks_for_credentials(&self) -> bool {
        match self.auth {
            Auth::On => true,
            Auth::Off => false,
            Auth::Auto => !self.listen.ip().is_loopback() && !self.insecure_no_auth,
        }
    }

    /// How long the files of finished tasks are kept; `None`: until they are deleted or the disk budget is reached.
    pub fn retention(&self) -> Option<Duration> {
        const DAY: u64 = 24;
        let hours = match self.retention_hours {
            Retention::Keep => return None,
            Retention::Auto if self.role == Role::All && self.listen.ip().is_loopback() => return None,
            Retention::Auto => DAY,
            Retention::Hours(hours) => hours,
        };
        Some(Duration::from_secs(hours.saturating_mul(3600)))
    }

    /// Bytes that the files of tasks may take where finished ones are kept; `None`: no limit but the disk.
    pub fn disk_budget(&self) -> Option<u64> {
        let limited = self.disk_budget_mb > 0 && self.retention().is_none();
        limited.then_some(self.disk_budget_mb.saturating_mul(1 << 20))
    }

    /// How large sources and results may be.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            max_bytes: self.max_upload_mb << 20,
            max_pixels: self.max_source_megapixels * 1_000_000,
            max_result_megapixels: self.max_result_megapixels,
            own_memory: self.role != Role::Api,
        }
    }

    /// Which hosts may be reached.
    pub(crate) fn policy(&self) -> Policy {
        Policy { allow: self.allow_net.clone() }
    }

    /// The folder of added models.
    pub fn models_dir(&self) -> PathBuf {
        self.data_dir.join("models")
    }

    /// What draws for creative jobs that say nothing of it.
    pub fn generative(&self) -> Option<Generative> {
        let named = |name: &String| (!name.is_empty()).then(|| name.clone());
        let checkpoint = named(&self.checkpoint);
        if checkpoint.is_none() && self.generator.is_empty() {
            return None;
        }
        Some(Generative {
            checkpoint,
            control: named(&self.control),
            vae: named(&self.vae),
            // Those that are not are refused at the start.
            loras: self.loras.iter().filter_map(|lora| lora.parse().ok()).collect(),
            ..Generative::default()
        })
    }

    /// The program that draws, if it is not this one.
    pub fn remote(&self) -> Option<RemoteGenerator> {
        let workflow = (!self.workflow.as_os_str().is_empty()).then(|| self.workflow.clone());
        // Others are refused at the start.
        RemoteGenerator::parse(&self.generator, workflow).ok()
    }

    /// Arguments by which a process that runs a task apart finds the same models.
    pub(crate) fn apart(&self) -> Vec<OsString> {
        let mut arguments = vec!["--models-dir".into(), self.models_dir().into()];
        arguments.extend(self.model_dirs.iter().flat_map(|dir| ["--model-dirs".into(), dir.clone().into()]));
        if let Some(generative) = self.generative() {
            let json = serde_json::to_string(&generative).expect("names and numbers");
            arguments.extend(["--generative".into(), json.into()]);
        }
        if let Some(RemoteGenerator { workflow, .. }) = self.remote() {
            arguments.extend(["--generator".into(), self.generator.clone().into()]);
            arguments.extend(workflow.into_iter().flat_map(|file| ["--workflow".into(), file.into()]));
        }
        arguments
    }

    /// The service that enlarges instead of this machine, if there is one.
    pub(crate) fn relay(&self) -> Result<Option<Relay>, ConfigError> {
        if self.relay.is_empty() {
            return Ok(None);
        }
        let file = self.relay_key_file.display();
        let unreadable =
            |why: String| ConfigError::new(format!("`relay_key_file`: {why}"), "put the service's API key into it");
        let key = std::fs::read_to_string(&self.relay_key_file);
        let key = key.map_err(|error| unreadable(format!("cannot read {file}: {}", error.kind())))?;
        let key = key.trim();
        if key.is_empty() {
            return Err(unreadable(format!("{file} is empty")));
        }
        // Others are refused at the start.
        let kinds = self.relay_kinds.iter().filter_map(|kind| Kind::parse(kind)).collect();
        let budget = Budget { daily: self.relay_daily_megapixels, daily_per_key: self.relay_key_daily_megapixels };
        let folder = self.data_dir.join("relay");
        Relay::new(&self.relay, key, kinds, budget, Patience::default(), &folder, self.policy()).map(Some).map_err(
            |error| {
                let hint = "for example --relay https://api.magnific.com --relay-key-file FILE";
                ConfigError::new(format!("`relay` cannot be used: {error}"), hint)
            },
        )
    }

    /// Where traces go. Call it within a runtime.
    pub(crate) fn traces(&self) -> Result<Traces, ConfigError> {
        if self.otlp.is_empty() {
            return Ok(Traces::default());
        }
        Traces::to(&self.otlp, self.role.name()).map_err(no_collector)
    }

    /// What signs and delivers webhooks.
    pub(crate) fn webhooks(&self) -> Result<Webhooks, ConfigError> {
        let secret = |text: &Hidden| {
            if text.reveal().is_empty() {
                return Err(ConfigError::new("a webhook secret is empty", "set one, or leave it out"));
            }
            let hint = "use `whsec_` followed by base64, or any text without that prefix";
            Secret::parse(text.reveal()).map_err(|error| ConfigError::new(error.to_string(), hint))
        };
        let secrets = self.webhook_secret.iter().map(secret).collect::<Result<_, _>>()?;
        Ok(Webhooks::new(self.policy(), secrets))
    }

    /// Checks what is said about the relay.
    fn check_relay(&self) -> Result<(), ConfigError> {
        let fail = |what: String, hint: &str| Err(ConfigError::new(what, hint));
        let unset = Self::default();
        if self.relay.is_empty() {
            let set = [
                ("relay_key_file", self.relay_key_file != unset.relay_key_file),
                ("relay_kinds", self.relay_kinds != unset.relay_kinds),
                ("relay_daily_megapixels", self.relay_daily_megapixels > 0),
                ("relay_key_daily_megapixels", self.relay_key_daily_megapixels > 0),
            ];
            return match set.iter().find(|(_, set)| *set) {
                Some((name, _)) => fail(format!("`{name}` is set without `relay`"), "add --relay URL, or leave it out"),
                None => Ok(()),
            };
        }
        let here = |url: &url::Url| match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if !url::Url::parse(&self.relay).is_ok_and(|url| url.scheme() == "https" || here(&url)) {
            return fail(
                "`relay` is not an https URL".into(),
                "use https://: others could read the key and the images",
            );
        }
        if self.relay_key_file.as_os_str().is_empty() {
            return fail(
                "`relay` is set without `relay_key_file`".into(),
                "add --relay-key-file FILE, with the service's API key in it",
            );
        }
        if self.relay_daily_megapixels == 0 {
            let hint = "add --relay-daily-megapixels MP: what may be ordered in a day, such as 200";
            return fail("`relay` is set without a limit of what it may cost".into(), hint);
        }
        let known =
            |kind: &str| Kind::parse(kind).is_some_and(|kind| Relay::KINDS.iter().any(|(known, _)| *known == kind));
        match self.relay_kinds.iter().find(|kind| !known(kind)) {
            Some(kind) => fail(format!("`relay_kinds` contains {kind:?}"), "use creative, precision-v2 or both"),
            None if self.relay_kinds.is_empty() => {
                fail("`relay_kinds` is empty".into(), "use creative, precision-v2 or both")
            }
            None => Ok(()),
        }
    }

    /// Checks that need no input or output.
    fn check(&self) -> Result<(), ConfigError> {
        let fail = |what: &str, hint: &str| Err(ConfigError::new(what, hint));
        if !self.listen.ip().is_loopback() && !self.asks_for_credentials() && !self.insecure_no_auth {
            return fail(
                "refusing to listen on a non-loopback address without authentication",
                "leave `auth` at `auto`, or add --insecure-no-auth if you trust everyone on the network",
            );
        }
        if self.storage.is_empty() && self.storage_redirect {
            return fail("`storage_redirect` is set without `storage`", "add --storage s3://BUCKET/PREFIX");
        }
        if !self.storage.is_empty() && !self.storage.starts_with("s3://") {
            return fail(
                "`storage` is not a URL of a bucket",
                "for example s3://pictures/enlarger?endpoint=https://s3.example.com; for a folder use --data-dir",
            );
        }
        if (1..32).contains(&self.signing_secret.reveal().len()) {
            return fail(
                "`signing_secret` has fewer than 32 characters",
                "for example the output of `openssl rand -hex 32`",
            );
        }
        if !self.generator.is_empty()
            && let Err(usage) = RemoteGenerator::parse(&self.generator, None)
        {
            return fail(
                &format!("`generator` is not usable: {usage}"),
                "give the address that ComfyUI prints when it starts",
            );
        }
        if self.generator.is_empty() && !self.workflow.as_os_str().is_empty() {
            return fail("`workflow` is set without `generator`", "add --generator comfyui=http://127.0.0.1:8188");
        }
        self.check_relay()?;
        if !self.otlp.is_empty() {
            Traces::check(&self.otlp).map_err(no_collector)?;
        }
        if self.save_to.as_os_str().is_empty() && self.save_name != NamePattern::default() {
            return fail("`save_name` is set without `save_to`", "add --save-to DIR");
        }
        if self.role == Role::Api && !self.save_to.as_os_str().is_empty() {
            return fail("`save_to` has no effect with `role = \"api\"`", "set it for the workers, which save results");
        }
        if self.jwt_secret.reveal().is_empty()
            && self.jwks_url.is_empty()
            && !(self.jwt_audience.is_empty() && self.jwt_issuer.is_empty())
        {
            return fail(
                "`jwt_audience` or `jwt_issuer` is set, but no bearer token is accepted",
                "set `jwt_secret` or `jwks_url`, or remove them",
            );
        }
        if self.auth == Auth::On && self.insecure_no_auth {
            return fail("`auth` is on and `insecure_no_auth` is set", "choose one of them");
        }
        if !self.public_url.is_empty() {
            let url = url::Url::parse(&self.public_url).ok();
            if url.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
                return fail(
                    "`public_url` contains a user name or password, and every client sees this URL",
                    "leave them out; clients add their own credentials",
                );
            }
            let plain = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.query().is_none();
            if !url.is_some_and(|url| plain(&url) && url.has_host()) {
                return fail(
                    "`public_url` is not an http or https URL",
                    "for example https://pictures.example.com/enlarger",
                );
            }
        }
        if !self.jwks_url.is_empty() && !self.jwks_url.starts_with("https://") {
            return fail(
                "`jwks_url` is not an https URL",
                "use https://: keys fetched without encryption could be forged",
            );
        }
        if let Some((lora, why)) = self.loras.iter().find_map(|l| Some((l, l.parse::<Lora>().err()?))) {
            return fail(&format!("`loras` contains {lora:?}: {why}"), "for example more_details:0.5");
        }
        let positive = [
            ("jobs", self.jobs as u64),
            ("gpu_jobs", self.gpu_jobs as u64),
            ("lease_seconds", self.lease_seconds),
            ("queue_limit", self.queue_limit),
            ("key_queue_limit", self.key_queue_limit),
            ("requests_per_second", self.requests_per_second.into()),
            ("max_body_mb", self.max_body_mb),
            ("max_upload_mb", self.max_upload_mb),
            ("max_source_megapixels", self.max_source_megapixels),
            ("bodies_at_once", self.bodies_at_once as u64),
            ("retention_hours", if self.retention_hours == Retention::Hours(0) { 0 } else { 1 }),
            ("upload_hours", self.upload_hours),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => fail(&format!("`{name}` is 0"), "use a number of at least 1, or leave it out"),
            None => Ok(()),
        }
    }
}

/// A size on the command line: a number of MB, or one with its unit, such as 8GB.
///
/// # Errors
/// A sentence.
pub fn megabytes(text: &str) -> Result<u64, String> {
    let digits = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &*text.trim()[digits.len()..].trim().to_lowercase() {
        "" | "m" | "mb" | "mib" => Some(1),
        "g" | "gb" | "gib" => Some(1024),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    number
        .filter(|&megabytes| megabytes <= u64::MAX >> 20)
        .ok_or_else(|| "expected a number of MB, such as 8192, or 8GB".into())
}

fn read(path: &Path) -> Result<ConfigLayer, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(format!("cannot read {}: {error}", path.display()), "check the path given to --config")
    })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        ConfigError::new(
            format!("{}, line {line}: {}", path.display(), error.message()),
            "`enlarger serve --print-config` lists every key",
        )
    })
}

/// The default settings as a commented file.
pub fn print_config() -> String {
    let mut text = String::from(
        "# Settings of `enlarger serve`, with their defaults. Pass the file with --config FILE. Environment variables\n\
         # override the file, and flags override both: `listen` is also ENLARGER_LISTEN and --listen. Without --config,\n\
         # enlarger/config.toml in the user's folder of settings is read, such as ~/.config on Linux, if it exists.\n",
    );
    for setting in describe() {
        text += "\n";
        for line in wrap(&setting.help, 100) {
            text += &format!("# {line}\n");
        }
        text += &format!("#{} = {}\n", setting.name, setting.default);
    }
    text
}

/// One setting, for documentation.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key in the file.
    pub name: String,
    /// The environment variable.
    pub variable: String,
    /// The flag.
    pub flag: String,
    /// The default, as TOML.
    pub default: String,
    /// What it does.
    pub help: String,
}

/// Every setting, in order.
pub fn describe() -> Vec<Setting> {
    let defaults = toml::Table::try_from(Config::default()).expect("settings are plain values");
    let command = ConfigLayer::augment_args(Command::new("serve"));
    let setting = |arg: &clap::Arg| {
        let name = arg.get_id().to_string();
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        Setting {
            variable: arg.get_env().map(|variable| variable.to_string_lossy().into_owned()).unwrap_or_default(),
            flag: format!("--{}", arg.get_long().unwrap_or_default()),
            default: defaults.get(&name).map(ToString::to_string).unwrap_or_default(),
            help: help.split_whitespace().collect::<Vec<_>>().join(" "),
            name,
        }
    };
    command.get_arguments().map(setting).collect()
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a last line");
        if !line.is_empty() && line.len() + word.len() >= width {
            lines.push(word.to_owned());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_host_a_port_or_both() {
        for (text, address) in [
            ("7788", "127.0.0.1:7788"),
            ("0", "127.0.0.1:0"),
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("localhost:9000", "127.0.0.1:9000"),
            ("localhost", "127.0.0.1:7788"),
            ("0.0.0.0", "0.0.0.0:7788"),
            (":9000", "0.0.0.0:9000"),
            ("*:9000", "0.0.0.0:9000"),
            ("::1", "[::1]:7788"),
            ("[::1]", "[::1]:7788"),
            ("[::]:80", "[::]:80"),
        ] {
            assert_eq!(text.parse::<Listen>().map(|listen| listen.to_string()).as_deref(), Ok(address), "{text}");
        }
        for wrong in ["", "localhost:", "localhost:http", "1.2.3.4:70000", "70000", "http://localhost:80", "[::1]:x"] {
            assert!(wrong.parse::<Listen>().is_err(), "{wrong}");
        }
        assert_eq!(toml::from_str::<ConfigLayer>("listen = 9000").unwrap().listen.unwrap().port(), 9000);
    }

    #[test]
    fn files_are_kept_on_a_loopback_address_and_for_a_day_elsewhere_unless_told_otherwise() {
        const HOUR: Duration = Duration::from_secs(3600);
        let config = |listen: &str, role, retention_hours: &str| Config {
            listen: listen.parse().unwrap(),
            role,
            retention_hours: retention_hours.parse().unwrap(),
            ..Config::default()
        };
        for (listen, role, hours, kept) in [
            ("127.0.0.1:7788", Role::All, "auto", None),
            ("127.9.9.9:1", Role::All, "auto", None),
            ("[::1]:7788", Role::All, "auto", None),
            ("0.0.0.0:7788", Role::All, "auto", Some(24 * HOUR)),
            ("[::]:7788", Role::All, "auto", Some(24 * HOUR)),
            ("192.168.1.5:80", Role::All, "auto", Some(24 * HOUR)),
            // Where one half of a service listens says nothing about who uses the other half.
            ("127.0.0.1:7788", Role::Worker, "auto", Some(24 * HOUR)),
            ("127.0.0.1:7788", Role::Api, "auto", Some(24 * HOUR)),
            ("127.0.0.1:7788", Role::All, "3", Some(3 * HOUR)),
            ("0.0.0.0:7788", Role::All, "keep", None),
        ] {
            let config = config(listen, role, hours);
            assert_eq!(config.retention(), kept, "{listen} {role:?} {hours}");
            assert_eq!(config.disk_budget().is_some(), kept.is_none(), "{listen} {role:?} {hours}");
        }
    }

    #[test]
    fn retention_is_read_from_a_file_as_a_word_or_a_number() {
        let read = |text: &str| toml::from_str::<ConfigLayer>(text).map(|layer| layer.retention_hours);
        assert_eq!(read("retention_hours = 24").unwrap(), Some(Retention::Hours(24)));
        assert_eq!(read("retention_hours = \"keep\"").unwrap(), Some(Retention::Keep));
        for bad in ["retention_hours = \"always\"", "retention_hours = -1", "retention_hours = 1.5"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("is not auto, keep or a number of hours"), "{error}");
        }
        assert!(
            Config::load(ConfigLayer { retention_hours: Some(Retention::Hours(0)), ..Default::default() }, None)
                .is_err()
        );
    }
}
