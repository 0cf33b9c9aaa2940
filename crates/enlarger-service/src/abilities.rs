//! What a request needs that not every machine has, and what this one has of it: words that are equal on all machines.

use std::collections::BTreeSet;

use enlarger_models::{Library, ModelInfo};
use enlarger_pipeline::{Enlarger, Generative, Request};

const CHECKPOINT: &str = "checkpoint";

/// What requests may need and this machine has: `model NAME sha256:HASH`, `checkpoint NAME`. Reads the headers of files in its folders.
pub(crate) fn abilities(enlarger: &Enlarger) -> BTreeSet<String> {
    let models = enlarger.models().list();
    let parts = enlarger.library().parts();
    let checkpoints = parts.iter().filter(|found| found.what.kind() == CHECKPOINT);
    let checkpoints = checkpoints.map(|found| Library::name(&found.path));
    models.iter().map(model).chain(checkpoints.map(|name| checkpoint(&name))).collect()
}

/// What this request names, in the words of [`abilities`]. What is not there is left out: the job fails with a better sentence.
pub(crate) fn needs(enlarger: &Enlarger, request: &Request) -> BTreeSet<String> {
    let mut needs = BTreeSet::new();
    if let Some(name) = &request.model {
        // Of a combination, each.
        let names: Vec<&str> = name.split(['/', '+']).map(|part| part.split('@').next().unwrap_or(part)).collect();
        needs.extend(enlarger.models().list().iter().filter(|model| names.contains(&model.name.as_str())).map(model));
    }
    let asked = request.generative.as_ref().and_then(|asked| asked.checkpoint.as_deref());
    if let Some(name) = asked.filter(|name| *name != Generative::NONE)
        && let Ok(path) = enlarger.library().find(CHECKPOINT, name)
    {
        needs.insert(checkpoint(&Library::name(&path)));
    }
    needs
}

fn model(model: &ModelInfo) -> String {
    format!("model {} sha256:{}", model.name, model.sha256)
}

fn checkpoint(name: &str) -> String {
    // A line in the task's row.
    format!("checkpoint {}", name.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use enlarger_pipeline::EnlargerOptions;

    use super::*;

    #[test]
    fn what_a_request_names_is_what_this_machine_has() {
        let enlarger = Enlarger::new(EnlargerOptions::default()).expect("this machine can run models");
        let needs =
            |model: Option<&str>| needs(&enlarger, &Request { model: model.map(Into::into), ..Request::default() });
        assert_eq!(needs(None), BTreeSet::new());
        let both = needs(Some("realsr-df2k+x4plus@0.5"));
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both.is_subset(&abilities(&enlarger)));
        assert!(both.iter().all(|need| need.contains(" sha256:")), "{both:?}");
        assert_eq!(needs(Some("no such model")), BTreeSet::new());
    }
}
