//! The commands that the README and the guides show work as they are printed: a shell runs each, where the files are that it names.
#![cfg(unix)]

mod common;

#[path = "common/checkpoints.rs"]
mod checkpoints;

#[path = "common/comfyui.rs"]
mod comfyui;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use comfyui::{Fake, Mood};
use common::{folder_of, text};
use enlarger_image::Format;
use tempfile::TempDir;

/// What the machine of the tests lacks, and what takes minutes.
const NOT_RUN: [&str; 4] = ["--gpu rtx", "--gpu pci:", "enlarger bench", "enlarger admin"];

#[test]
fn the_commands_of_the_documentation_work_as_printed() {
    let comfyui = Fake::new(Mood::Echo);
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guides =
        fs::read_dir(top.join("docs/guides")).expect("the guides").map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<PathBuf> = guides.chain([top.join("README.md")]).collect();
    pages.sort();
    let mut run = 0;
    for page in pages {
        let commands = commands(&fs::read_to_string(&page).expect("a page"));
        let reader = (!commands.is_empty()).then(reader);
        for command in commands {
            let folder = reader.as_ref().expect("it has commands").path();
            let out = shell(folder, &runnable(&command, &comfyui)).output().expect("a shell");
            assert!(out.status.success(), "{}: {command}: {}", page.display(), text(&out.stderr));
            run += 1;
        }
    }
    assert!(run > 50, "{run} commands were found");
}

/// Those of the blocks of a page, without their comments.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" # ").next().unwrap_or_default().trim());
    let ours = |line: &&str| {
        let mut parts = line.split(['|', ';']).map(str::trim);
        parts.any(|part| part.starts_with("enlarger ") || part.starts_with("mkdir ") || part.starts_with("printf "))
            && !NOT_RUN.iter().any(|part| line.contains(part))
    };
    lines.filter(ours).map(str::to_owned).collect()
}

/// A command as it is printed, but that it ends by itself, and finds the ComfyUI that there is.
fn runnable(command: &str, comfyui: &Fake) -> String {
    let command = command.replace("http://127.0.0.1:8188", &comfyui.address).replace("juggernaut_xl", "tiny");
    let command = command.replace("mkdir inbox", "mkdir -p inbox");
    let more = if command.contains("enlarger serve") && !command.contains("--print-config") {
        " --print-config"
    } else if command.contains("enlarger watch") && !command.contains("--once") {
        " --once"
    } else if command.contains("--keep") {
        // An area of a large photo, which takes an hour here.
        " --explain"
    } else if command.contains("enlarger upscale ") && !command.contains(" - ") && !command.contains("--skip-existing")
    {
        // A page may make the same result twice.
        " --overwrite"
    } else {
        ""
    };
    command + more
}

fn shell(folder: &Path, command: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_enlarger"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let before = binary.parent().expect("a folder").to_path_buf();
    let path = std::env::join_paths([before].into_iter().chain(std::env::split_paths(&path))).expect("paths");
    let mut shell = Command::new("bash");
    shell.args(["-euc", command]).current_dir(folder).env_clear().env("PATH", path);
    shell.env("HOME", folder.join("home")).env("PROFILE", folder.join("profile.ps1"));
    shell
}

/// Somebody's folder with the files that are named, all small, and a home with ComfyUI's models.
fn reader() -> TempDir {
    let folder = folder_of(12, 9);
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("home")).expect("room");
    for names in ["holiday/a.jpg", "holiday/sub/b.jpg", "photos/a.jpg", "inbox/a.jpg", "fox.jpg", "wall.jpg"] {
        fs::create_dir_all(at(names).parent().expect("a folder")).expect("room");
        fs::copy(at("photo.jpg"), at(names)).expect("room");
    }
    for name in ["in.png", "brick.png"] {
        fs::copy(at("photo.png"), at(name)).expect("room");
    }
    let picture = |width, height, name: &str, format| {
        let made = folder_of(width, height);
        let bytes = fs::read(made.path().join("photo.png")).expect("it was made");
        let picture = enlarger_image::decode(&bytes, &enlarger_image::Limits::default()).expect("an image").picture;
        let options = enlarger_image::EncodeOptions { format, ..Default::default() };
        let mut file = fs::File::create(at(name)).expect("room");
        enlarger_image::encode(&picture, &options, &mut file).expect("it can be encoded");
    };
    picture(750, 2, "scan.tif", Format::Tiff);
    picture(1100, 640, "family.jpg", Format::Jpeg);
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let network = crates.join("enlarger-nn/tests/reference/rrdb_x4_zip.pth");
    fs::copy(network, at("4x_something.pth")).expect("a network");
    fs::copy(crates.join("enlarger-comfyui/workflows/redraw.json"), at("flux.json")).expect("a workflow");
    let models = at("home/ComfyUI/models");
    checkpoints::write(&models.join("checkpoints/dreamshaper_8.safetensors"), &checkpoints::checkpoint());
    checkpoints::write(&models.join("loras/more_details.safetensors"), &checkpoints::lora());
    checkpoints::write(&at("sd15.safetensors"), &checkpoints::checkpoint());
    checkpoints::write(&at("FILE.safetensors"), &checkpoints::checkpoint());
    folder
}
