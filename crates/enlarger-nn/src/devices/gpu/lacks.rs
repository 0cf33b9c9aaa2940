//! What keeps drivers from offering cards that there seem to be, above all in containers.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::devices::survey::Surveyed;

/// What is looked at.
struct Machine<'a> {
    /// The root of the file system.
    root: &'a Path,
    /// Whether the Vulkan loader can be loaded, or what the system says.
    loader: Result<(), String>,
    /// What limits the loader to some drivers, and their files.
    limit: Option<(&'static str, Vec<PathBuf>)>,
    /// `NVIDIA_DRIVER_CAPABILITIES`.
    capabilities: Option<&'a str>,
    /// Whether any driver offers a card, whether NVIDIA's does, and whether any but a software renderer does.
    any: bool,
    nvidia: bool,
    hardware: bool,
}

/// Sentences, each with what to do.
pub fn lacks(cards: &[Surveyed]) -> Vec<String> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    // Its own name is the loader's promise, whatever the package is called.
    // SAFETY: a library that computes nothing when it is loaded; wgpu has loaded it already, if it is there.
    let loader = unsafe { libloading::Library::new("libvulkan.so.1") };
    // The second is its older name: https://github.com/KhronosGroup/Vulkan-Loader/blob/main/docs/LoaderDriverInterface.md
    let limit =
        ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().find_map(|name| Some((name, std::env::var_os(name)?)));
    let capabilities = std::env::var("NVIDIA_DRIVER_CAPABILITIES").ok();
    let named = |word: &str| cards.iter().any(|card| card.name.contains(word) || card.driver.contains(word));
    Machine {
        root: Path::new("/"),
        loader: loader.map(drop).map_err(|error| error.to_string()),
        limit: limit.map(|(name, files)| (name, std::env::split_paths(&files).collect())),
        capabilities: capabilities.as_deref(),
        nvidia: named("NVIDIA"),
        any: !cards.is_empty(),
        hardware: cards.iter().any(|card| !["llvmpipe", "SwiftShader"].iter().any(|name| card.name.contains(name))),
    }
    .lacks()
}

impl Machine<'_> {
    fn lacks(&self) -> Vec<String> {
        let is_there = |name: &str| self.root.join(name).exists();
        let container = is_there(".dockerenv") || is_there("run/.containerenv");
        let nvidia = is_there("dev/nvidiactl") || is_there("dev/nvidia0");
        let nodes: Vec<_> = fs::read_dir(self.root.join("dev/dri"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("renderD")))
            .collect();
        let mut lacks = Vec::new();
        // It is there and broken, which a machine without GPUs need not be.
        let missing = |why: &String| why.contains("No such file");
        if let Err(why) = self.loader.as_ref()
            && (!missing(why) || self.limit.is_some())
        {
            lacks.push(format!("the Vulkan loader cannot be loaded: {why}"));
        }
        if let Some((name, files)) = &self.limit
            && !self.any
            && self.loader.is_ok()
        {
            lacks.push(match files.iter().find(|file| !file.exists()) {
                Some(file) => {
                    format!("{name} names {}, which is not there: correct it or leave it out", file.display())
                }
                None => format!("{name} limits Vulkan to drivers that offer no GPU: leave it out to try all"),
            });
        }
        if !nvidia && nodes.is_empty() {
            if container && !self.hardware {
                lacks.push(
                    "this container sees no GPU: start it with --gpus all (NVIDIA) or --device /dev/dri (others)"
                        .into(),
                );
            }
            return lacks;
        }
        if self.limit.is_none() && self.loader.as_ref().is_err_and(missing) {
            lacks.push(
                "the Vulkan loader libvulkan.so.1 is missing: install libvulkan1 (Debian, Ubuntu) or vulkan-loader \
                 (Fedora)"
                    .into(),
            );
        }
        if nvidia && !self.nvidia {
            let all = |words: &str| words.split(',').any(|word| ["all", "graphics"].contains(&word.trim()));
            lacks.push(match self.capabilities {
                Some(words) if all(words) => {
                    "the NVIDIA driver offers no Vulkan here: install libxext6 and libegl1, which it needs".into()
                }
                _ if container || self.capabilities.is_some() => format!(
                    "NVIDIA_DRIVER_CAPABILITIES is {}, which leaves Vulkan out: start the container with \
                     NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics",
                    self.capabilities.unwrap_or("not set")
                ),
                _ => "the NVIDIA driver offers no Vulkan: install its graphics libraries, such as libnvidia-gl".into(),
            });
        }
        let denied = |path: &&std::path::PathBuf| {
            let opened = fs::OpenOptions::new().read(true).write(true).open(path);
            opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        };
        if let Some(node) = nodes.iter().find(denied) {
            let path = node.strip_prefix(self.root).unwrap_or(node).display();
            lacks.push(format!(
                "this user may not open /{path}: add it to the group render, or the container with --group-add"
            ));
        } else if !nvidia && !self.hardware && self.loader.is_ok() {
            lacks.push("no Vulkan driver for the GPU in /dev/dri: install mesa-vulkan-drivers (AMD, Intel)".into());
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a machine with these files lacks.
    fn lacks(files: &[&str], machine: impl FnOnce(&mut Machine<'_>)) -> Vec<String> {
        let root = tempfile::tempdir().expect("a folder");
        for file in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("it can be made");
            fs::write(file, "").expect("it can be written");
        }
        let mut here = Machine {
            root: root.path(),
            loader: Ok(()),
            limit: None,
            capabilities: None,
            any: false,
            nvidia: false,
            hardware: false,
        };
        machine(&mut here);
        here.lacks()
    }

    #[test]
    fn what_a_container_lacks_is_said_with_what_to_do() {
        assert!(lacks(&[], |_| {}).is_empty(), "a machine without a GPU lacks nothing");
        assert!(lacks(&[".dockerenv"], |_| {})[0].contains("--gpus all"));
        let nvidia = [".dockerenv", "dev/nvidiactl"];
        let told = lacks(&nvidia, |here| here.capabilities = Some("compute,utility"));
        let [line] = &*told else { panic!("{told:?}") };
        assert!(line.starts_with("NVIDIA_DRIVER_CAPABILITIES is compute,utility,"), "{line}");
        assert!(line.ends_with("NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics"), "{line}");
        assert!(lacks(&nvidia, |_| {})[0].starts_with("NVIDIA_DRIVER_CAPABILITIES is not set"));
        assert!(lacks(&nvidia, |here| here.capabilities = Some("all"))[0].contains("libxext6"));
        let told = lacks(&nvidia, |here| {
            here.loader = Err("libvulkan.so.1: cannot open shared object file: No such file or directory".into());
            here.capabilities = Some("all");
        });
        assert!(told.len() == 2 && told[0].contains("libvulkan1"), "{told:?}");
        assert!(lacks(&nvidia, |here| (here.nvidia, here.hardware) = (true, true)).is_empty(), "all is well");
        let told = lacks(&[], |here| here.loader = Err("libvulkan.so.1: file too short".into()));
        assert_eq!(told, ["the Vulkan loader cannot be loaded: libvulkan.so.1: file too short"]);
        let told = lacks(&[], |here| here.limit = Some(("VK_DRIVER_FILES", vec!["/none.json".into()])));
        assert_eq!(told, ["VK_DRIVER_FILES names /none.json, which is not there: correct it or leave it out"]);
        assert!(
            lacks(&[], |here| here.limit = Some(("VK_DRIVER_FILES", vec!["/".into()])))[0].contains("offer no GPU")
        );
        assert!(lacks(&["dev/dri/renderD128"], |_| {})[0].contains("mesa-vulkan-drivers"));
        assert!(lacks(&["dev/dri/renderD128"], |here| here.hardware = true).is_empty());
    }
}
