//! Results among the inputs.

use std::{collections::HashSet, path::Path};

use crate::{
    inputs::{Input, Inputs},
    paths::{parent, real},
    search::Reason,
    target::{Target, source_name},
};

/// Skips what enlarger has already made, so that a folder can be enlarged repeatedly. Results are known by the
/// note that is written into them, or else, if it was removed, by a name such as `fox_4x.png` beside `fox.jpg` or where the
/// result of `fox.jpg` would go. A result that was named itself is enlarged, unless its source is too: it was a pattern
/// then that the shell expanded.
pub fn pass_over_results(inputs: &mut Inputs, target: &Target) {
    let mut sources = HashSet::new();
    for source in inputs.list.iter().filter_map(Input::source) {
        let places = [real(parent(&source.path)), real(&target.folder(source))];
        for name in [source.path.file_stem(), source.path.file_name()].into_iter().flatten() {
            sources.extend(places.iter().map(|place| (place.clone(), name.as_encoded_bytes().to_owned())));
        }
    }
    let named_as_result =
        |path: &Path| source_name(path).is_some_and(|name| sources.contains(&(real(parent(path)), name.to_owned())));
    let passed_over = &mut inputs.passed_over;
    inputs.list.retain(|input| {
        let Some(source) = input.source() else { return true };
        let by_name = named_as_result(&source.path);
        let reason = match (source.named, by_name) {
            (true, false) => None,
            _ if says_it_is_a_result(&source.path) => Some(Reason::Result),
            (false, true) => Some(Reason::NamedAsResult),
            _ => None,
        };
        passed_over.extend(reason.map(|reason| (source.path.clone(), reason)));
        reason.is_none()
    });
    // Results may be in a format that is only written.
    for (path, reason) in
        passed_over.iter_mut().filter(|(path, reason)| matches!(reason, Reason::Format(_)) && path.is_file())
    {
        if says_it_is_a_result(path) {
            *reason = Reason::Result;
        } else if named_as_result(path) {
            *reason = Reason::NamedAsResult;
        }
    }
}

/// A file that cannot be opened is not skipped: reading it will give the reason.
pub fn says_it_is_a_result(path: &Path) -> bool {
    // Opening a named pipe would wait for somebody to write, and so would reading a file of the system's that says it is empty.
    path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0)
        && std::fs::File::open(path)
            .and_then(|file| enlarger_image::provenance(&mut std::io::BufReader::with_capacity(4096, file)))
            .is_ok_and(|note| note.is_some())
}
