//! `enlarger keys`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use enlarger_server::{ConfigLayer, auth::keys, open_store};

use crate::{printer::Hinted, serve};

/// Make, list and revoke API keys.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
    /// Where the server keeps its data, if not the platform's place.
    #[arg(long, global = true, value_name = "DIR", env = "ENLARGER_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print it. It is not kept, so it cannot be shown again.
    Create {
        /// What it is for.
        name: String,
        /// It may also manage keys and models.
        #[arg(long)]
        admin: bool,
    },
    /// All keys, by their beginnings.
    List {
        /// A JSON array on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key. It opens nothing any more, at once.
    Revoke {
        /// Its beginning, as `list` shows it, or its name if no other has it.
        key: String,
    },
}

/// Runs the command.
pub fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    let config = serve::load(ConfigLayer { data_dir: args.data_dir, ..ConfigLayer::default() }, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = open_store(&config).await?.api_keys;
        match args.command {
            Command::Create { name, admin } => {
                if keys::list(&*store).await?.iter().any(|key| key.name == name && key.revoked_at.is_none()) {
                    eprintln!("warning: another key is named {name}, too; their beginnings tell them apart");
                }
                let new = keys::create(&*store, &name, admin).await?;
                eprintln!("This is the only time the key is shown:");
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
                let missing = || Hinted::error(format!("there is no key {key}"), "`enlarger keys list` shows them");
                println!("{} opens nothing any more", revoked.ok_or_else(missing)?.prefix);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
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
            format!("revoke one by its beginning: {}", named.join(", ")),
        )),
    }
}

fn list(all: &[keys::ApiKey]) {
    if all.is_empty() {
        eprintln!("There are no keys. Make one: enlarger keys create NAME");
    }
    let width = all.iter().map(|key| key.name.chars().count()).max().unwrap_or(0);
    for key in all {
        let used = key.last_used_at.map_or("never used".into(), |at| format!("used {at:.0}"));
        let state = key.revoked_at.map_or(used, |at| format!("revoked {at:.0}"));
        let role = if keys::is_admin(key) { "  administrator" } else { "" };
        println!("{:16}  {:width$}  created {:.0}  {state}{role}", key.prefix, key.name, key.created_at);
    }
}
