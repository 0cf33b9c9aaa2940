//! Reading images: files and standard input.

use std::{
    io::Read,
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

use enlarger_image::{Format, Limits};
use enlarger_pipeline::{PipelineError, human_bytes};

use crate::{
    inputs::Input,
    printer::{Hinted, reason},
    search::special,
    signals,
};

/// The bytes of an input. A signal ends the wait for them.
pub fn read(input: &Input, limits: &Limits) -> anyhow::Result<Vec<u8>> {
    let (sender, receiver) = channel();
    let (input, limits) = (input.clone(), *limits);
    // It may wait for ever, and no signal interrupts it: then it goes down with the program.
    std::thread::Builder::new().name("read".into()).spawn(move || sender.send(read_now(&input, &limits)))?;
    loop {
        match receiver.recv_timeout(Duration::from_millis(20)) {
            Ok(bytes) => return bytes,
            Err(RecvTimeoutError::Timeout) if signals::stopped().is_none() => {}
            Err(_) => return Err(Hinted::error("reading was interrupted", "try again")),
        }
    }
}

/// The bytes of an input, by a thread that may wait for them.
pub fn read_now(input: &Input, limits: &Limits) -> anyhow::Result<Vec<u8>> {
    let Input::File(source) = input else {
        return read_picture(std::io::stdin().lock(), "standard input", limits.max_bytes);
    };
    let path = &source.path;
    let told = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(to) => Hinted::error(format!("it links to {}, which does not exist", to.display()), "fix the link"),
            Err(_) => Hinted::error("no such file", "check the name and the folder"),
        },
        std::io::ErrorKind::PermissionDenied => Hinted::error("permission denied", "check the file's permissions"),
        _ => Hinted::error(format!("cannot read the file: {}", reason(&e)), "check the file and its disk"),
    };
    // Before it is opened: that alone would wait for somebody who writes to a pipe.
    let metadata = path.metadata().map_err(told)?;
    if let Some(what) = special(metadata.file_type()) {
        let hint = match metadata.is_dir() {
            true => "give the path of an image file",
            false => "give a file, or pipe the image in and use - for standard input",
        };
        return Err(Hinted::error(format!("this is {what}, not a file"), hint));
    }
    if metadata.len() > limits.max_bytes {
        return Err(too_long("the file", limits.max_bytes));
    }
    read_picture(std::fs::File::open(path).map_err(told)?, "the file", limits.max_bytes)
}

/// Bytes that identify an image format; the start of an SVG drawing needs by far the most.
const SIGNATURE: u64 = 1024;

/// Reads to the end, but stops at the limit, and early in what cannot be an image: it may never end.
fn read_picture(mut from: impl Read, what: &str, limit: u64) -> anyhow::Result<Vec<u8>> {
    let told =
        |e: std::io::Error| Hinted::error(format!("cannot read {what}: {}", reason(&e)), "check the file and its disk");
    let mut bytes = Vec::new();
    from.by_ref().take(SIGNATURE).read_to_end(&mut bytes).map_err(told)?;
    if bytes.is_empty() {
        return Err(Hinted::error(format!("{what} is empty"), "check the program that should have written it"));
    }
    Format::sniff(&bytes).map_err(PipelineError::from)?;
    let rest = (limit + 1).saturating_sub(bytes.len() as u64);
    from.take(rest).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > limit { Err(too_long(what, limit)) } else { Ok(bytes) }
}

fn too_long(what: &str, limit: u64) -> anyhow::Error {
    Hinted::error(
        format!("{what} is larger than the limit of {}", human_bytes(limit)),
        "if it is an image, save it with compression",
    )
}

#[cfg(test)]
mod tests {
    use std::io::repeat;

    use super::*;

    #[test]
    fn reading_ends_at_the_limit_and_at_what_is_not_a_picture() {
        let signature = b"\x89PNG\r\n\x1a\n";
        let said = |from: &mut dyn Read| read_picture(from, "standard input", 3 << 20).map_err(|e| e.to_string());
        let endless = said(&mut signature.chain(repeat(0)));
        assert_eq!(endless, Err("standard input is larger than the limit of 3 MB".into()));
        // Without a limit's worth of bytes being kept: this would never end.
        let nothing = read_picture(repeat(0), "the file", u64::MAX - 1).map_err(|e| e.to_string());
        assert!(nothing.is_err_and(|said| said.contains("not an image")));
        assert_eq!(said(&mut &b""[..]), Err("standard input is empty".into()));
        assert_eq!(said(&mut signature.chain(repeat(0).take((3 << 20) - 8))).map(|bytes| bytes.len()), Ok(3 << 20));
        assert!(said(&mut signature.chain(repeat(0).take((3 << 20) - 7))).is_err());
    }
}
