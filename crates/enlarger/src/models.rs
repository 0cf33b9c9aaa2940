//! `enlarger models`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use enlarger_models::{Catalogue, Library, ModelInfo, What};

use crate::{dirs, printer::Hinted, scan};

/// List, add, find and verify models.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the available models.
    List {
        /// Print a JSON array to standard output.
        #[arg(long)]
        json: bool,
    },
    /// Find Stable Diffusion checkpoints, ControlNets, VAEs, LoRAs and embeddings, and show which go together.
    ///
    /// Reads headers only. Searches ENLARGER_MODEL_DIRS, or ComfyUI's and A1111's folders in the home folder, if no folder is given.
    Scan {
        /// Folders, such as ComfyUI's or A1111's `models`, or files.
        dirs: Vec<PathBuf>,
        /// Print a JSON array to standard output.
        #[arg(long)]
        json: bool,
    },
    /// Show details of a model.
    Show {
        /// The model's name.
        name: String,
        /// Print a JSON object to standard output.
        #[arg(long)]
        json: bool,
    },
    /// Add ESRGAN or Compact models from safetensors, .pth or ncnn files.
    Add {
        /// Model files; for an ncnn pair, either of the two.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Name for the model [default: the file name].
        #[arg(long)]
        name: Option<String>,
    },
    /// Verify the SHA-256 of every model.
    Verify,
    /// Remove a model that was added.
    Rm {
        /// The model's name.
        name: String,
    },
}

/// Runs the command.
pub fn run(args: ModelsArgs) -> anyhow::Result<ExitCode> {
    let catalogue = Catalogue::open(dirs::models_dir())?;
    match args.command {
        Command::List { json: true } => println!("{}", serde_json::to_string_pretty(&catalogue.list())?),
        Command::List { json: false } => {
            list(&catalogue.list());
            let found = library(dirs::model_dirs()).parts();
            if !found.is_empty() {
                println!();
                scan::show(&found);
            }
        }
        Command::Scan { dirs, json } => return scan(dirs, json),
        Command::Show { name, json } => {
            let model = catalogue.get(&name)?;
            if json { println!("{}", serde_json::to_string_pretty(&model)?) } else { show(&model) }
        }
        Command::Add { files, name } => {
            if name.is_some() && files.len() > 1 {
                return Err(Hinted::usage("--name cannot be used with several files", "add them one by one"));
            }
            for file in files {
                let model = catalogue.add(&file, name.as_deref())?;
                println!("{}: {}, {} MB", model.name, model.architecture, megabytes(&model));
            }
        }
        Command::Verify => return Ok(verify(&catalogue)),
        Command::Rm { name } => catalogue.remove(&name)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn library(folders: Vec<PathBuf>) -> Library {
    Library::new(folders, dirs::data_dir())
}

fn scan(given: Vec<PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let from = if given.is_empty() { " of ENLARGER_MODEL_DIRS" } else { "" };
    let folders = if given.is_empty() { dirs::model_dirs() } else { given };
    if let Some(missing) = folders.iter().find(|path| !path.exists()) {
        let what = format!("{}{from} does not exist", missing.display());
        return Err(Hinted::error(what, "check the name of the folder"));
    }
    let (files, folders): (Vec<_>, Vec<_>) = folders.into_iter().partition(|path| path.is_file());
    let library = library(folders.clone());
    let mut found = library.scan();
    for file in &files {
        match library.look(file) {
            Some(model) => found.push(model),
            None => say!("warning: {} is not a folder, and not a model by its extension", file.display()),
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        scan::show(&found);
    }
    if found.iter().any(|found| !matches!(found.what, What::Unsupported(_))) {
        return Ok(ExitCode::SUCCESS);
    }
    let all: Vec<_> = folders.iter().chain(&files).map(|path| path.display().to_string()).collect();
    let place = if all.is_empty() { "the usual folders".to_owned() } else { all.join(", ") };
    Err(match (found.len(), library.files() + files.len()) {
        (0, 0) => Hinted::error(
            format!("there are no files in {place}"),
            "give the folder of ComfyUI or A1111 that holds their models: `enlarger models scan ComfyUI/models`",
        ),
        (0, all) => Hinted::error(
            format!("{place}: no model among {}", counted(all, "file")),
            "models are .safetensors files; give the folder that they are in: `enlarger models scan ComfyUI/models`",
        ),
        (count, _) => Hinted::error(
            format!("{place}: {} there, and none is supported", counted(count, "model")),
            "the list says why; docs/guides/generative.md says what is supported, and how ComfyUI draws with other models",
        ),
    })
}

/// "1 file", "2 files".
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn list(models: &[ModelInfo]) {
    let widest = |text: fn(&ModelInfo) -> String| models.iter().map(|m| text(m).chars().count()).max().unwrap_or(0);
    let (name, size, license) = (widest(|m| m.name.clone()), widest(megabytes), widest(|m| m.license.clone()));
    for m in models {
        let mb = megabytes(m);
        println!("{:name$}  {}x  {mb:>size$} MB  {:license$}  {}", m.name, m.scale, m.license, m.good_at);
    }
}

/// Its size, in units of 1024 x 1024 bytes.
fn megabytes(model: &ModelInfo) -> String {
    format!("{:.1}", model.bytes as f64 / f64::from(1 << 20))
}

fn show(m: &ModelInfo) {
    let origin = if m.bundled { "inside the binary" } else { "added by you" };
    let rows = [
        ("name", m.name.clone()),
        ("title", m.title.clone()),
        ("good at", m.good_at.clone()),
        ("architecture", m.architecture.clone()),
        ("parameters", m.parameters.to_string()),
        ("where", origin.to_owned()),
        ("bytes", m.bytes.to_string()),
        ("sha256", m.sha256.clone()),
        ("license", m.license.clone()),
        ("copyright", m.copyright.clone()),
        ("source", m.source.clone()),
        ("upstream", m.upstream.clone()),
    ];
    for (key, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        println!("{key:13} {value}");
    }
}

fn verify(catalogue: &Catalogue) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (name, result) in catalogue.verify() {
        match result {
            Ok(()) => println!("{name}: OK"),
            Err(error) => {
                code = ExitCode::from(1);
                crate::printer::error(&error.into());
            }
        }
    }
    code
}
