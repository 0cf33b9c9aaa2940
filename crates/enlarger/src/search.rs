//! What is in a folder: images, and what is skipped.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{DirEntry, FileType},
    io,
    path::{Path, PathBuf},
};

use enlarger_image::Format;

/// What a search has found, in order of path.
#[derive(Debug, Default)]
pub struct Findings {
    /// Files whose names say that they are images in a format that is read.
    pub images: Vec<PathBuf>,
    /// Images that are left alone.
    pub passed_over: Vec<(PathBuf, Reason)>,
    /// Folders that cannot be read.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// Whether there were folders that were not looked into.
    pub folders_left: bool,
}

/// Why an image is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It says that enlarger made it.
    Result,
    /// It is named as the result of an image that is there too.
    NamedAsResult,
    /// Its format is not read.
    Format(&'static str),
    /// It is not a file: reading might never end.
    NotAFile(&'static str),
    /// Its name begins with a dot.
    Hidden,
}

/// Searches a folder, and with `recursive` those in it, each once: real ones first, then those that links lead to.
pub fn search(folder: &Path, recursive: bool) -> Findings {
    let mut findings = Findings::default();
    let mut seen = HashSet::new();
    let (mut folders, mut links) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop().or_else(|| links.pop()) {
        if !seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        match std::fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Err(error) => findings.unreadable.push((folder, error)),
            Ok(entries) => entries.iter().for_each(|entry| match look_at(entry, &mut findings) {
                Some(_) if !recursive => findings.folders_left = true,
                Some(Folder::Real) => folders.push(entry.path()),
                Some(Folder::Link) => links.push(entry.path()),
                None => {}
            }),
        }
        // Which of several links leads to a folder must not depend on the order of the disk.
        links.sort_unstable_by(|a, b| b.cmp(a));
    }
    findings.images.sort_unstable();
    findings.passed_over.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    findings.unreadable.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    findings
}

enum Folder {
    Real,
    Link,
}

/// Sorts an entry in, unless it is a folder to look into.
fn look_at(entry: &DirEntry, findings: &mut Findings) -> Option<Folder> {
    let (path, name) = (entry.path(), entry.file_name());
    if is_dropping(&name) {
        return None;
    }
    let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
    // A link that leads nowhere is found missing when it is read.
    let kind = if link { path.metadata().map(|m| m.file_type()) } else { entry.file_type() }.ok();
    let hidden = name.as_encoded_bytes().starts_with(b".");
    if kind.is_some_and(|kind| kind.is_dir()) {
        return (!hidden).then_some(if link { Folder::Link } else { Folder::Real });
    }
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
    let read = Format::from_extension(&extension).is_some_and(Format::can_decode);
    let reason = match (unread_format(&extension), kind.and_then(special)) {
        (None, _) if !read => return None,
        (_, Some(what)) => Reason::NotAFile(what),
        _ if hidden => Reason::Hidden,
        (Some(format), _) => Reason::Format(format),
        (None, None) => {
            findings.images.push(path);
            return None;
        }
    };
    findings.passed_over.push((path, reason));
    None
}

/// What systems leave beside users' files: AppleDouble halves, thumbnails, recycle bins.
fn is_dropping(name: &OsStr) -> bool {
    let names = ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"];
    name.as_encoded_bytes().starts_with(b"._") || names.iter().any(|dropping| name == *dropping)
}

/// What something is that is not a file.
#[cfg(unix)]
pub fn special(kind: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some("a folder"),
        kind if kind.is_fifo() => Some("a named pipe"),
        kind if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

/// What something is that is not a file.
#[cfg(not(unix))]
pub fn special(kind: FileType) -> Option<&'static str> {
    (!kind.is_file()).then_some(if kind.is_dir() { "a folder" } else { "a device" })
}

/// The name of a format of images that is not read, by its extension in lower case.
fn unread_format(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "heic" | "heif" | "hif" | "heics" => "HEIC",
        "avif" | "avifs" => "AVIF",
        "jxl" => "JPEG XL",
        "jp2" | "j2k" | "jpx" | "jpf" | "j2c" | "jpc" | "jph" => "JPEG 2000",
        "jxr" | "wdp" | "hdp" => "JPEG XR",
        "psd" | "psb" => "Photoshop",
        "xcf" => "GIMP",
        "kra" => "Krita",
        "svg" | "svgz" => "SVG",
        "exr" => "OpenEXR",
        "hdr" => "Radiance HDR",
        "tga" => "TGA",
        "dds" => "DDS",
        "qoi" => "QOI",
        "pcx" => "PCX",
        "ico" | "cur" => "icon",
        "pbm" | "pgm" | "ppm" | "pnm" | "pam" | "pfm" => "Netpbm",
        "3fr" | "arw" | "cr2" | "cr3" | "crw" | "dcr" | "dng" | "erf" | "iiq" | "kdc" | "mef" | "mos" | "mrw"
        | "nef" | "nrw" | "orf" | "pef" | "raf" | "raw" | "rw2" | "rwl" | "sr2" | "srf" | "srw" | "x3f" => "camera raw",
        _ => return None,
    })
}
