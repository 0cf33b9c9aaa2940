//! What `enlarger upscale` makes of folders and of many files: each image once, none replaced, none passed over in silence.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use assert_cmd::assert::{Assert, OutputAssertExt};
use common::{folder, text};
use serde_json::Value;
use tempfile::TempDir;

fn upscale(folder: &Path, args: &[&str]) -> Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    command.current_dir(folder).args(["upscale", "--draft", "-s", "2x"]).args(args).assert()
}

fn told(assert: &Assert) -> String {
    text(&assert.get_output().stderr)
}

fn lines(assert: &Assert) -> Vec<Value> {
    text(&assert.get_output().stdout).lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// An empty folder, and a photo to copy into it.
fn empty() -> (TempDir, Vec<u8>) {
    let photos = folder();
    let photo = fs::read(photos.path().join("photo.jpg")).expect("it is there");
    fs::remove_file(photos.path().join("photo.jpg")).expect("removed");
    fs::remove_file(photos.path().join("photo.png")).expect("removed");
    (photos, photo)
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(&path, bytes).expect("written");
    path
}

/// All files in a folder and those in it, with their names from there, without links.
fn tree(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            match entry.file_type().expect("a type").is_dir() {
                true => walk(root, &entry.path(), names),
                false => names.push(entry.path().strip_prefix(root).expect("inside").display().to_string()),
            }
        }
    }
    let mut names = Vec::new();
    walk(folder, folder, &mut names);
    names.sort();
    names
}

#[test]
fn a_folder_enlarged_again_leaves_its_results_alone() {
    for format in ["png", "jpeg", "webp", "tiff", "avif"] {
        let (dir, photo) = empty();
        put(dir.path(), "a.jpg", &photo);
        put(dir.path(), "b/c.jpg", &photo);
        for target in [&["-r"][..], &["-r", "-o", "out"]] {
            let args = [&[".", "--skip-existing", "-f", format], target].concat();
            upscale(dir.path(), &args).success();
            let once = tree(dir.path());
            let again = upscale(dir.path(), &args).success();
            assert_eq!(tree(dir.path()), once, "{format} {target:?}: {}", told(&again));
            assert!(told(&again).contains("skipped"), "{format} {target:?}: {}", told(&again));
        }
        let replaced = upscale(dir.path(), &[".", "-r", "--overwrite", "-f", format]).success();
        assert!(told(&replaced).contains("2 enlarged"), "{}", told(&replaced));
    }
}

#[test]
fn results_without_their_note_are_known_by_their_names() {
    let (dir, photo) = empty();
    put(dir.path(), "a.jpg", &photo);
    put(dir.path(), "a_4x.jpg", &photo);
    put(dir.path(), "alone_4x.jpg", &photo);
    let made = upscale(dir.path(), &[".", "--json"]).success();
    assert_eq!(tree(dir.path()), ["a.jpg", "a_2x.png", "a_4x.jpg", "alone_4x.jpg", "alone_4x_2x.png"]);
    let line = lines(&made).into_iter().find(|line| line["input"].as_str().unwrap().ends_with("a_4x.jpg")).unwrap();
    assert_eq!((&line["status"], &line["reason"]), (&"skipped".into(), &"named like a result".into()));
}

#[test]
fn a_result_that_is_named_is_enlarged_and_one_that_a_shell_expanded_beside_its_source_is_not() {
    let (dir, photo) = empty();
    put(dir.path(), "a.jpg", &photo);
    upscale(dir.path(), &["a.jpg"]).success();
    let both = upscale(dir.path(), &["a.jpg", "a_2x.png", "--skip-existing"]).success();
    assert!(told(&both).contains("skipped a_2x.png: already enlarged by enlarger"), "{}", told(&both));
    upscale(dir.path(), &["a_2x.png"]).success();
    assert_eq!(tree(dir.path()), ["a.jpg", "a_2x.png", "a_2x_2x.png"]);
    fs::remove_file(dir.path().join("a.jpg")).expect("removed");
    let nothing = upscale(dir.path(), &["."]).code(1);
    assert!(told(&nothing).contains("nothing to enlarge") && told(&nothing).contains("hint:"), "{}", told(&nothing));
}

#[test]
fn overwrite_never_replaces_an_image_of_the_batch() {
    let (found, given) = ("which is not marked as made by enlarger", "which is one of the images given");
    for (inputs, why) in [(&["."][..], found), (&["icon.jpg", "icon_2x.png"], given), (&["*.*"], found)] {
        let (dir, photo) = empty();
        put(dir.path(), "icon.jpg", &photo);
        let own = put(dir.path(), "icon_2x.png", &photo);
        let refused = upscale(dir.path(), &[inputs, &["--overwrite"]].concat()).code(1);
        let told = told(&refused);
        assert!(told.contains("would overwrite") && told.contains(why) && told.contains("hint:"), "{told}");
        assert_eq!(fs::read(own).expect("it is there"), photo, "{inputs:?}");
    }
}

#[test]
fn images_that_differ_in_their_extension_all_have_results() {
    let (dir, photo) = empty();
    put(dir.path(), "a.jpg", &photo);
    upscale(dir.path(), &[".", "--skip-existing"]).success();
    put(dir.path(), "A.jpeg", &photo);
    put(dir.path(), "a.jfif", &photo);
    upscale(dir.path(), &[".", "--skip-existing"]).success();
    let results = |of: &str| tree(dir.path()).iter().filter(|name| name.starts_with(of)).count();
    assert_eq!([results("a.jpg_2x"), results("A.jpeg_2x"), results("a.jfif_2x"), results("a_2x")], [1; 4]);
    let all = tree(dir.path());
    upscale(dir.path(), &[".", "--skip-existing"]).success();
    assert_eq!(tree(dir.path()), all);
}

#[test]
fn an_empty_file_is_not_a_result() {
    let (dir, photo) = empty();
    put(dir.path(), "a.jpg", &photo);
    for flags in [&["a.jpg", "--skip-existing"][..], &["a.jpg"], &[".", "--skip-existing"], &["a.jpg", "--overwrite"]] {
        let result = put(dir.path(), "a_2x.png", b"");
        upscale(dir.path(), flags).success();
        assert!(fs::read(result).expect("it is there").starts_with(b"\x89PNG"), "{flags:?}");
    }
    put(dir.path(), "a_2x.png", b"mine");
    upscale(dir.path(), &["a.jpg", "--skip-existing"]).success();
    assert_eq!(fs::read(dir.path().join("a_2x.png")).expect("it is there"), b"mine");
}

#[test]
fn a_hint_that_all_failures_share_is_said_once() {
    let (dir, photo) = empty();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        put(dir.path(), name, &photo);
    }
    upscale(dir.path(), &["."]).success();
    let again = upscale(dir.path(), &["."]).code(1);
    let told = told(&again);
    assert_eq!((told.matches("already exists").count(), told.matches("--skip-existing").count()), (3, 1), "{told}");
}

#[test]
fn a_source_is_never_its_own_result_by_any_path() {
    let (dir, photo) = empty();
    let source = put(dir.path(), "v.jpg", &photo);
    fs::create_dir(dir.path().join("sub")).expect("made");
    for path in ["nope/../v.jpg", "./nope/a/../../v.jpg", "sub/../v.jpg", "sub/nope/../../v.jpg", "nope/.."] {
        let refused = match path.ends_with("..") {
            // The name of the result is another.
            true => upscale(dir.path(), &["v.jpg", "-o", path, "--overwrite"]).success(),
            false => upscale(dir.path(), &["v.jpg", "-o", path, "--overwrite"]).code(1),
        };
        assert_eq!(fs::read(&source).expect("it is there"), photo, "{path}: {}", told(&refused));
    }
    assert_eq!(tree(dir.path()), ["v.jpg", "v_2x.png"]);
    assert!(!dir.path().join("nope").exists());
    let nothing = upscale(dir.path(), &["v.jpg", "-o", ""]).code(2);
    assert!(told(&nothing).contains("-o is empty"), "{}", told(&nothing));
}

#[test]
fn contradictions_of_output_and_format_are_usage_errors() {
    let (dir, photo) = empty();
    put(dir.path(), "a.jpg", &photo);
    put(dir.path(), "b.jpg", &photo);
    for (args, word) in [
        (&["a.jpg", "-o", "out.jpg", "-f", "png"][..], "--format is PNG"),
        (&["a.jpg", "-o", "out.tiff", "-f", "webp"], "--format is WebP"),
        (&["a.jpg", "-o", "out.gif"], "cannot write GIF"),
        (&["a.jpg", "-o", "out.docx"], "unknown output format"),
        (&["a.jpg", "-o", "out"], "unknown output format"),
        (&["a.jpg", "b.jpg", "-o", "one.png"], "several images need an output folder"),
        (&[".", "-o", "one.JPG"], "several images need an output folder"),
        (&["a.jpg", "b.jpg", "-o", "-"], "standard output"),
        (&["a.jpg", "--width", "1e6"], "expected a whole number of pixels"),
        (&["a.jpg", "-q", "high"], "expected a whole number from 1 to 100"),
        (&["a.jpg", "--hdr", "1.5"], "expected a whole number from -10 to 10"),
    ] {
        let args: Vec<_> = args.iter().copied().filter(|arg| *arg != "-s").collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
        let refused = command.current_dir(dir.path()).arg("upscale").args(&args).assert().code(2);
        assert!(told(&refused).contains(word), "{args:?}: {}", told(&refused));
    }
    assert_eq!(tree(dir.path()), ["a.jpg", "b.jpg"]);
    upscale(dir.path(), &["a.jpg", "b.jpg", "-o", "one.png/"]).success();
    upscale(dir.path(), &["a.jpg", "a.jpg", "./a.jpg", "-o", "one.jpeg", "-f", "jpeg"]).success();
    assert_eq!(tree(dir.path()), ["a.jpg", "b.jpg", "one.jpeg", "one.png/a_2x.png", "one.png/b_2x.png"]);
}

#[test]
fn what_systems_leave_in_folders_is_no_image() {
    let (dir, photo) = empty();
    for name in ["a.JPG", "b.jpe", "c.jfif", "d.pjpeg"] {
        put(dir.path(), name, &photo);
    }
    for dropping in [
        "._a.JPG",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "@eaDir/a.jpg",
        "__MACOSX/a.jpg",
        "$RECYCLE.BIN/a.png",
        ".git/a.png",
    ] {
        put(dir.path(), dropping, b"\0\x05\x16\x07");
    }
    let made = upscale(dir.path(), &[".", "-r", "-o", "out"]).success();
    assert_eq!(tree(&dir.path().join("out")), ["a_2x.png", "b_2x.png", "c_2x.png", "d_2x.png"]);
    assert!(!told(&made).contains("skipped"), "{}", told(&made));
    put(dir.path(), ".secret.png", &photo);
    let made = upscale(dir.path(), &[".", "--skip-existing", "-o", "out"]).success();
    assert!(told(&made).contains("skipped 1 hidden file\n"), "{}", told(&made));
}

#[test]
fn images_that_cannot_be_read_are_counted_by_format() {
    let (dir, photo) = empty();
    for name in ["1.HEIC", "2.heif", "3.avif", "4.jxl", "5.psd", "6.NEF", "7.dng", "notes.txt", "film.mp4"] {
        put(dir.path(), name, b"whatever");
    }
    let nothing = upscale(dir.path(), &["."]).code(1);
    for word in ["no supported images", "hint: convert", "7 images", "2 HEIC", "1 AVIF", "2 camera raw"] {
        assert!(told(&nothing).contains(word), "{word}: {}", told(&nothing));
    }
    assert!(!told(&nothing).contains("--recursive"), "{}", told(&nothing));
    put(dir.path(), "a.jpg", &photo);
    let made = upscale(dir.path(), &[".", "--json"]).success();
    assert!(told(&made).contains("1 Photoshop") && !told(&made).contains("error"), "{}", told(&made));
    assert_eq!(lines(&made).iter().filter(|line| line["status"] == "skipped").count(), 7);
    let (dir, photo) = empty();
    put(dir.path(), "in/a.jpg", &photo);
    assert!(told(&upscale(dir.path(), &["."]).code(1)).contains("hint: add --recursive"));
}

#[cfg(unix)]
mod unix {
    use std::{
        ffi::OsStr,
        os::unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, symlink},
            net::UnixListener,
        },
    };

    use super::*;

    #[test]
    fn a_source_is_never_its_own_result_by_any_link() {
        let (dir, photo) = empty();
        let source = put(dir.path(), "v.jpg", &photo);
        symlink(".", dir.path().join("here")).expect("linked");
        symlink("v.jpg", dir.path().join("link.jpg")).expect("linked");
        fs::hard_link(&source, dir.path().join("hard.jpg")).expect("linked");
        for path in ["here/v.jpg", "here/nope/../v.jpg", "link.jpg", "hard.jpg"] {
            let refused = upscale(dir.path(), &["v.jpg", "-o", path, "--overwrite"]).code(1);
            assert!(told(&refused).contains("would overwrite its own source"), "{path}: {}", told(&refused));
            assert_eq!(fs::read(&source).expect("it is there"), photo, "{path}");
        }
        // Two images of a batch by different ways to the same folder.
        put(dir.path(), "v.jpeg", &photo);
        upscale(dir.path(), &["v.jpg", "here/v.jpeg", "--overwrite"]).success();
        for made in ["v.jpg_2x.png", "v.jpeg_2x.png"] {
            assert!(dir.path().join(made).exists(), "{made}");
        }
    }

    #[test]
    fn what_is_not_a_file_is_refused_and_a_link_that_leads_nowhere_says_so() {
        let (dir, photo) = empty();
        put(dir.path(), "a.jpg", &photo);
        let pipe = dir.path().join("pipe.png");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        symlink("/dev/zero", dir.path().join("zero.png")).expect("linked");
        let _socket = UnixListener::bind(dir.path().join("s.png")).expect("bound");
        symlink("gone.png", dir.path().join("lost.png")).expect("linked");
        for (input, what) in [
            ("pipe.png", "a named pipe, not a file"),
            ("/dev/zero", "a device, not a file"),
            ("zero.png", "a device, not a file"),
            ("s.png", "a socket, not a file"),
            ("lost.png", "links to gone.png, which does not exist"),
        ] {
            let refused = upscale(dir.path(), &[input, "-o", "out/"]).code(1);
            assert!(told(&refused).contains(what) && told(&refused).contains("hint:"), "{input}: {}", told(&refused));
        }
        let refused = upscale(dir.path(), &["a.jpg", "-o", "pipe.png", "--overwrite"]).code(1);
        assert!(told(&refused).contains("pipe.png is a named pipe"), "{}", told(&refused));
        // Endless, and not a picture.
        let zero = fs::File::open("/dev/zero").expect("opened");
        let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
        command.args(["upscale", "-"]).stdin(zero).assert().code(1);
    }

    #[test]
    fn links_lead_to_each_folder_once() {
        let (dir, photo) = empty();
        put(dir.path(), "a.jpg", &photo);
        put(dir.path(), "z/b.jpg", &photo);
        symlink(".", dir.path().join("itself")).expect("linked");
        symlink("..", dir.path().join("z/up")).expect("linked");
        symlink("z", dir.path().join("again")).expect("linked");
        let elsewhere = folder();
        symlink(elsewhere.path(), dir.path().join("elsewhere")).expect("linked");
        let made = upscale(dir.path(), &[".", "-r", "-o", "out", "--json"]).success();
        assert_eq!(lines(&made).len(), 4, "{}", told(&made));
        assert_eq!(
            tree(&dir.path().join("out")),
            ["a_2x.png", "elsewhere/photo.jpg_2x.png", "elsewhere/photo.png_2x.png", "z/b_2x.png"]
        );
    }

    #[test]
    fn pipes_and_sockets_in_a_folder_are_passed_over() {
        let (dir, photo) = empty();
        put(dir.path(), "a.jpg", &photo);
        let pipe = dir.path().join("x.jpg");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        symlink(&pipe, dir.path().join("y.png")).expect("linked");
        let _socket = UnixListener::bind(dir.path().join("s.png")).expect("bound");
        let made = upscale(dir.path(), &["."]).success();
        for what in ["x.jpg: a named pipe", "y.png: a named pipe", "s.png: a socket"] {
            assert!(told(&made).contains(what), "{what}: {}", told(&made));
        }
    }

    /// Permissions do not hold back root, under whom containers run tests: there it goes on as somebody else.
    #[test]
    fn an_unreadable_folder_is_reported_and_the_rest_goes_on() {
        let (dir, photo) = empty();
        put(dir.path(), "a.jpg", &photo);
        put(dir.path(), "lost+found/b.jpg", &photo);
        put(dir.path(), "z/c.jpg", &photo);
        for (path, mode) in [("lost+found", 0o000), ("z", 0o777), (".", 0o777)] {
            fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).expect("set");
        }
        let mut command = match fs::read_dir(dir.path().join("lost+found")) {
            Err(_) => Command::new(env!("CARGO_BIN_EXE_enlarger")),
            Ok(_) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]);
                // Folders on the way to the binary may be closed to others.
                let copy = dir.path().join("enlarger");
                fs::hard_link(env!("CARGO_BIN_EXE_enlarger"), &copy)
                    .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_enlarger"), &copy).map(drop))
                    .expect("copied");
                command.arg(copy);
                command
            }
        };
        command.current_dir(dir.path()).env("HOME", dir.path());
        let made = command.args(["upscale", "--draft", "-s", "2x", ".", "-r", "--json"]).assert().code(1);
        assert!(
            told(&made).contains("error: ./lost+found: cannot read this folder: Permission denied\n"),
            "{}",
            told(&made)
        );
        let status: Vec<_> = lines(&made).iter().map(|line| line["status"].as_str().unwrap().to_owned()).collect();
        assert_eq!(status, ["failed", "done", "done"]);
        fs::set_permissions(dir.path().join("lost+found"), fs::Permissions::from_mode(0o700)).expect("set");
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let (dir, photo) = empty();
        let name = |bytes| dir.path().join(OsStr::from_bytes(bytes));
        fs::write(name(b"caf\xe9.jpg"), photo).expect("written");
        let run = |args: &[&[u8]]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
            command.current_dir(dir.path()).args(["upscale", "--draft", "-s", "2x"]);
            command.args(args.iter().map(|arg| OsStr::from_bytes(arg))).assert().success();
        };
        run(&[b"caf\xe9.jpg"]);
        run(&[b"caf\xe9.jpg", b"-o", b"gro\xdf.webp"]);
        run(&[b"caf\xe9.jpg", b"-o", b"b\xfccher/"]);
        run(&[b".", b"--skip-existing"]);
        for made in [&b"caf\xe9_2x.png"[..], b"gro\xdf.webp", b"b\xfccher/caf\xe9_2x.png"] {
            assert!(name(made).exists(), "{}", name(made).display());
        }
        assert!(!name(b"caf\xe9_2x_2x.png").exists());
    }

    #[test]
    fn a_result_whose_name_is_too_long_says_so_before_the_work() {
        let (dir, photo) = empty();
        let long = format!("{}.jpg", "a".repeat(250));
        put(dir.path(), &long, &photo);
        let refused = upscale(dir.path(), &[&long]).code(1);
        assert!(told(&refused).contains("hint: choose a shorter name with -o"), "{}", told(&refused));
        upscale(dir.path(), &[&long, "-o", "short.png"]).success();
        assert_eq!(tree(dir.path()), [&long, "short.png"]);
    }

    /// A limit on the size of files stands for a disk that is full: both are errors of writing.
    #[test]
    fn an_error_of_writing_is_said_once_and_leaves_no_file() {
        let (dir, photo) = empty();
        put(dir.path(), "a.jpg", &photo);
        let mut command = Command::new("sh");
        command.current_dir(dir.path()).args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
        let command = command.arg(env!("CARGO_BIN_EXE_enlarger")).args(["upscale", "a.jpg", "--draft"]);
        let failed = command.assert().code(1);
        assert_eq!(told(&failed).matches("File too large").count(), 1, "{}", told(&failed));
        assert!(told(&failed).contains("hint:") && !told(&failed).contains("os error"), "{}", told(&failed));
        assert_eq!(tree(dir.path()), ["a.jpg"]);
    }
}
