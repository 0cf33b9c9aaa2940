//! What `make dist` makes of a binary installs and runs. Here it is the binary of these tests.
#![cfg(target_os = "linux")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out
}

fn is_ours(binary: &Path) {
    let version = run(Command::new(binary).arg("--version"));
    assert_eq!(version.trim(), concat!("enlarger ", env!("CARGO_PKG_VERSION")), "{}", binary.display());
}

#[test]
fn a_release_installs_from_its_archive_its_debian_package_and_its_wheel() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |path: &str| dir.path().join(path);
    let dist = || Command::new(root().join("packaging/dist.py"));
    run(dist().args(["package", env!("CARGO_BIN_EXE_enlarger"), at("out").to_str().unwrap(), "--level", "0"]));
    let found = |ending: &str| {
        let mut files = fs::read_dir(at("out")).expect("made").map(|entry| entry.expect("an entry").path());
        files.find(|path| path.to_string_lossy().ends_with(ending))
    };

    // The wheel needs no network, and no Rust.
    let wheel = found(".whl").expect("a wheel");
    run(Command::new("python3").args(["-m", "venv"]).arg(at("venv")));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"];
    run(Command::new(at("venv/bin/python")).args(pip).arg(&wheel));
    is_ours(&at("venv/bin/enlarger"));

    if let Some(package) = found(".deb") {
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(at("debian")));
        is_ours(&at("debian/usr/bin/enlarger"));
        for file in [
            "usr/lib/systemd/system/enlarger.service",
            "usr/share/applications/enlarger.desktop",
            "usr/share/bash-completion/completions/enlarger",
            "usr/share/man/man1/enlarger-upscale.1.gz",
            "etc/enlarger/config.toml",
        ] {
            assert!(at("debian").join(file).is_file(), "{file}");
        }
        // The service starts with the settings of the package, but for its folder.
        let settings = at("debian/etc/enlarger/config.toml");
        let data = at("data");
        let mut keys = Command::new(at("debian/usr/bin/enlarger"));
        keys.env("ENLARGER_CONFIG", &settings).args(["keys", "list", "--data-dir"]).arg(&data);
        run(&mut keys);
        assert!(fs::read_to_string(settings).expect("text").contains("data_dir = \"/var/lib/enlarger\""));
    }

    // Manifests name archives of all platforms; these stand for the others.
    let archive = found("-linux-gnu.tar.gz").expect("an archive");
    for other in [
        "x86_64-unknown-linux-gnu.tar.gz",
        "aarch64-unknown-linux-gnu.tar.gz",
        "aarch64-apple-darwin.tar.gz",
        "x86_64-apple-darwin.tar.gz",
        "x86_64-pc-windows-msvc.zip",
    ] {
        let path = at("out").join(format!("enlarger-{}-{other}", env!("CARGO_PKG_VERSION")));
        if !path.exists() {
            fs::hard_link(&archive, path).expect("linked");
        }
    }
    run(dist().args(["manifests", at("out").to_str().unwrap(), "--complete"]));
    for manifest in ["homebrew/enlarger.rb", "aur/PKGBUILD", "winget/enlarger.enlarger.installer.yaml"] {
        let text = fs::read_to_string(at("out").join(manifest)).expect(manifest);
        assert!(!text.contains("{{") && text.contains(env!("CARGO_PKG_VERSION")), "{manifest}: {text}");
    }

    // The installer takes what SHA256SUMS vouch for, and nothing else.
    let install = |release: &str| {
        let mut command = Command::new("sh");
        command.arg(root().join("packaging/install.sh")).env("PREFIX", at("prefix"));
        command.env("ENLARGER_RELEASE", format!("file://{}", at(release).display()));
        command
    };
    run(&mut install("out"));
    is_ours(&at("prefix/bin/enlarger"));
    assert!(at("prefix/share/man/man1/enlarger.1").is_file());
    fs::create_dir(at("forged")).expect("made");
    fs::copy(at("out/SHA256SUMS"), at("forged/SHA256SUMS")).expect("copied");
    fs::write(at("forged").join(archive.file_name().expect("a name")), b"something else").expect("written");
    let refused = install("forged").output().expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("is not what the release's SHA256SUMS say"), "{told}");
}

#[test]
fn shells_and_man_know_every_command() {
    let binary = env!("CARGO_BIN_EXE_enlarger");
    let script = format!("source <({binary} completions bash); complete -p enlarger");
    assert!(run(Command::new("bash").args(["-c", &script])).contains("enlarger"));
    for shell in ["zsh", "fish", "powershell"] {
        assert!(run(Command::new(binary).args(["completions", shell])).contains("skip-existing"), "{shell}");
    }
    let dir = tempfile::tempdir().expect("a folder");
    run(Command::new(binary).arg("man").arg(dir.path()));
    for command in ["", "-upscale", "-watch", "-serve", "-keys-create", "-models-add"] {
        let page = fs::read_to_string(dir.path().join(format!("enlarger{command}.1"))).expect(command);
        assert!(page.contains("SYNOPSIS"), "{command}: {page}");
    }
    // What the short help leaves out is explained, too.
    let watch = fs::read_to_string(dir.path().join("enlarger-watch.1")).expect("made");
    for words in ["must stay unchanged", "moved to the subfolder"] {
        assert!(watch.contains(words), "{words}: {watch}");
    }
}

/// The server's own commands, and the one that makes man pages.
#[test]
fn what_nobody_is_to_type_is_neither_listed_nor_completed_nor_explained() {
    let binary = env!("CARGO_BIN_EXE_enlarger");
    let dir = tempfile::tempdir().expect("a folder");
    run(Command::new(binary).arg("man").arg(dir.path()));
    let said = |args: &[&str]| run(Command::new(binary).args(args));
    let lists = [said(&["-h"]), said(&["--help"]), said(&["help"])];
    let listed = |command: &str| lists.iter().any(|list| list.contains(&format!("\n  {command} ")));
    let scripts = ["bash", "zsh", "fish", "powershell"].map(|shell| said(&["completions", shell]));
    // As bash, zsh, fish and PowerShell have a command's name.
    let completed = |command: &str| {
        let forms = [
            format!("enlarger,{command})"),
            format!("\n'{command}:"),
            format!(" -a \"{command}\""),
            format!("'{command}'"),
        ];
        scripts.iter().zip(&forms).map(|(script, form)| script.contains(form)).collect::<Vec<bool>>()
    };
    let explained = |command: &str| dir.path().join(format!("enlarger-{command}.1")).exists();
    for (command, shown) in
        [("upscale", true), ("mcp", true), ("man", false), ("run-apart", false), ("survey-gpus", false)]
    {
        assert_eq!(listed(command), shown, "{command}");
        assert_eq!(completed(command), [shown; 4], "{command}");
        assert_eq!(explained(command), shown, "{command}");
        assert!(
            shown || Command::new(binary).args([command, "--help"]).output().is_ok_and(|said| said.status.success()),
            "{command}"
        );
    }
}
