//! `enlarger keys`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use enlarger_server::{ConfigLayer, auth::keys, config::Hidden, open_store};

use crate::{dirs, printer::Hinted, serve};

/// Characters of a key's name.
const LONGEST_NAME: usize = 100;

/// Create, list and revoke API keys.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
    /// Data folder of the server [default: the platform's folder for application data].
    #[arg(long, global = true, value_name = "DIR", env = "ENLARGER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Database of the server [default: a file in its data folder].
    #[arg(long, global = true, value_name = "URL", env = "ENLARGER_DATABASE", hide_env_values = true)]
    database: Option<Hidden>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a key and print it. Only its hash is stored, so it cannot be shown again.
    Create {
        /// A name that says what the key is for.
        name: String,
        /// Also allow managing keys and models.
        #[arg(long)]
        admin: bool,
    },
    /// List API keys by their prefixes.
    List {
        /// Print a JSON array to standard output.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key, effective immediately.
    Revoke {
        /// The key's prefix, as `list` shows it, or its name if no other key has it.
        key: String,
    },
}

/// Runs the command.
pub fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    let config = serve::load(
        ConfigLayer { data_dir: args.data_dir, database: args.database, ..ConfigLayer::default() },
        dirs::config_file().as_deref(),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = open_store(&config).await?.api_keys;
        match args.command {
            Command::Create { name, admin } => {
                check(&name)?;
                if keys::list(&*store).await?.iter().any(|key| key.name == name && key.revoked_at.is_none()) {
                    say!("warning: another key is also named {name}; tell them apart by their prefixes");
                }
                let new = keys::create(&*store, &name, admin).await?;
                say!("Copy this key now; it won't be shown again:");
                println!("{}", new.key);
            }
            Command::List { json } => {
                let all = keys::list(&*store).await?;
                if json {
                    let rows: Vec<_> = all.iter().map(keys::describe).collect();
                    println!("{}", serde_json::to_string_pretty(&rows)?);
                } else {
                    list(&all);
                }
            }
            Command::Revoke { key } => {
                let prefix = prefix_of(&key, &keys::list(&*store).await?)?;
                let revoked = keys::revoke(&*store, &prefix).await?;
                let missing = || Hinted::error(format!("there is no key {key}"), "`enlarger keys list` shows all keys");
                println!("revoked {}", revoked.ok_or_else(missing)?.prefix);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Refuses names that lists would not show as one word or a few.
fn check(name: &str) -> anyhow::Result<()> {
    let fits = (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if fits && !name.trim().is_empty() {
        return Ok(());
    }
    let what = format!("a key's name has 1 to {LONGEST_NAME} characters, without line breaks");
    Err(Hinted::usage(what, "for example `enlarger keys create studio`"))
}

/// The beginning of the key that was meant: by itself, or by a name that no other key has which is not revoked.
fn prefix_of(word: &str, all: &[keys::ApiKey]) -> anyhow::Result<String> {
    let named = |key: &&keys::ApiKey| key.name == word && key.revoked_at.is_none();
    let named: Vec<&str> = all.iter().filter(named).map(|key| key.prefix.as_str()).collect();
    match named[..] {
        _ if all.iter().any(|key| key.prefix == word) => Ok(word.to_owned()),
        [prefix] => Ok(prefix.to_owned()),
        [] => Ok(word.to_owned()),
        _ => Err(Hinted::error(
            format!("{} keys are named {word}", named.len()),
            format!("revoke one by its prefix: {}", named.join(", ")),
        )),
    }
}

fn list(all: &[keys::ApiKey]) {
    if all.is_empty() {
        say!("No API keys yet. Create one with: enlarger keys create NAME");
    }
    let width = all.iter().map(|key| key.name.chars().count()).max().unwrap_or(0);
    for key in all {
        let used = key.last_used_at.map_or("never used".into(), |at| format!("used {at:.0}"));
        let state = key.revoked_at.map_or(used, |at| format!("revoked {at:.0}"));
        let role = if keys::is_admin(key) { "  administrator" } else { "" };
        println!("{:16}  {:width$}  created {:.0}  {state}{role}", key.prefix, key.name, key.created_at);
    }
}
