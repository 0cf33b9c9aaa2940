//! A workflow in ComfyUI's API format, and the places in it that are filled: nodes whose title begins with `enlarger:`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// What the title of a node begins with if something is to be filled in there.
const MARK: &str = "enlarger:";

/// Declares the places: their words in titles, and the inputs of a node that each may fill, by what is filled in.
macro_rules! places {
    ($($(#[doc = $doc:literal])+ $place:ident = $word:literal { $($key:literal: $inputs:expr),* };)+) => {
        /// Where something goes in or comes out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Place {
            $($(#[doc = $doc])+ $place,)+
        }

        impl Place {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$place,)+];

            /// The word in a node's title.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$place => $word,)+
                }
            }

            /// What is filled in, and the inputs that take it: those of them that a node has.
            const fn inputs(self) -> &'static [(&'static str, &'static [&'static str])] {
                match self {
                    $(Self::$place => &[$(($key, &$inputs)),*],)+
                }
            }
        }
    };
}

const TEXT: [&str; 7] = ["text", "prompt", "value", "clip_l", "t5xxl", "text_g", "text_l"];

places! {
    /// The tile that is drawn anew: an image loader.
    Source = "source" { "": ["image"] };
    /// The same tile of the source, enlarged by a filter, for a ControlNet: an image loader.
    Hint = "hint" { "": ["image"] };
    /// The prompt.
    Prompt = "prompt" { "": TEXT };
    /// The negative prompt.
    Negative = "negative" { "": TEXT };
    /// The seed of the noise.
    Seed = "seed" { "": ["seed", "noise_seed", "value"] };
    /// How many steps are run.
    Steps = "steps" { "": ["steps", "value"] };
    /// Denoising strength, 0 to 1.
    Denoise = "denoise" { "": ["denoise", "value"] };
    /// Guidance.
    Guidance = "guidance" { "": ["cfg", "guidance", "value"] };
    /// The sampler, as ComfyUI names it.
    Sampler = "sampler" { "": ["sampler_name"] };
    /// The checkpoint, or diffusion model.
    Checkpoint = "checkpoint" { "": ["ckpt_name", "unet_name", "model_name"] };
    /// The ControlNet.
    Control = "control" { "": ["control_net_name"] };
    /// Its weight.
    Strength = "strength" { "": ["strength", "value"] };
    /// Width and height of the whole canvas, for noise that all tiles share.
    Canvas = "canvas" { "width": ["width"], "height": ["height"] };
    /// Where the tile lies on the canvas, and its size.
    Tile = "tile" { "x": ["x"], "y": ["y"], "width": ["width"], "height": ["height"] };
    /// Where the result comes out: a node that saves or previews an image.
    Result = "result" {};
}

/// A workflow whose places are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    name: String,
    sha256: String,
    nodes: Map<String, Value>,
    /// Nodes with each place.
    places: BTreeMap<Place, Vec<String>>,
}

impl Workflow {
    /// The one that comes with this program, for SD 1.x, SD 2.x and SDXL: with a ControlNet, or without.
    ///
    /// # Panics
    /// Never: tests read both.
    #[must_use]
    pub fn bundled(control: bool) -> Self {
        let (name, json) = if control {
            ("redraw-tile.json", include_bytes!("../workflows/redraw-tile.json").as_slice())
        } else {
            ("redraw.json", include_bytes!("../workflows/redraw.json").as_slice())
        };
        Self::parse(name, json).expect("it is bundled")
    }

    /// Reads a file. Its name is told to users.
    ///
    /// # Errors
    /// [`Error::Workflow`] if it is not in the API format, has a title that is not understood, or lacks the source or the result.
    pub fn parse(name: &str, json: &[u8]) -> Result<Self, Error> {
        let wrong = |what: &str, hint: &str| Error::Workflow { what: format!("{name} {what}"), hint: hint.into() };
        let read: Value = serde_json::from_slice(json)
            .map_err(|error| wrong(&format!("is not a workflow of ComfyUI: {error}"), EXPORT))?;
        let Value::Object(nodes) = read else { return Err(wrong("is not a workflow of ComfyUI", EXPORT)) };
        if nodes.get("nodes").is_some_and(Value::is_array) {
            return Err(wrong("is saved in the format of ComfyUI's page, not in the API format", EXPORT));
        }
        if nodes.is_empty() || !nodes.values().all(|node| node["class_type"].is_string() && node["inputs"].is_object())
        {
            return Err(wrong("is not a workflow in ComfyUI's API format", EXPORT));
        }
        let mut places: BTreeMap<Place, Vec<String>> = BTreeMap::new();
        for (id, node) in &nodes {
            for place in titled(node).map_err(|word| unknown(name, &word))? {
                fits(node, place).map_err(|what| wrong(&what, TITLES))?;
                places.entry(place).or_default().push(id.clone());
            }
        }
        for place in [Place::Source, Place::Result] {
            let count = places.get(&place).map_or(0, Vec::len);
            if count != 1 {
                let what = format!(
                    "has {} node titled \"{MARK} {}\"",
                    if count == 0 { "no".to_owned() } else { format!("more than one ({count})") },
                    place.word()
                );
                return Err(wrong(&what, TITLES));
            }
        }
        let sha256 = hex::encode(Sha256::digest(json));
        let name = name.strip_suffix(".json").unwrap_or(name).to_owned();
        Ok(Self { name, sha256, nodes, places })
    }

    /// The file's name, without `.json`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the file, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether there is such a place.
    #[must_use]
    pub fn has(&self, place: Place) -> bool {
        self.places.contains_key(&place)
    }

    /// Kinds of its nodes, each once.
    pub(crate) fn classes(&self) -> BTreeSet<&str> {
        self.nodes.values().filter_map(|node| node["class_type"].as_str()).collect()
    }

    /// Kind of the node with a place, its input for it, and what is there.
    pub(crate) fn at(&self, place: Place) -> Option<(&str, &str, &Value)> {
        let node = &self.nodes[self.places.get(&place)?.first()?];
        let (_, candidates) = place.inputs().first()?;
        let input = candidates.iter().find(|input| node["inputs"].get(input).is_some())?;
        Some((node["class_type"].as_str()?, input, &node["inputs"][input]))
    }

    /// What is written where a place is filled.
    #[must_use]
    pub fn value(&self, place: Place) -> Option<&Value> {
        self.at(place).map(|(_, _, value)| value)
    }

    /// What people call a node.
    pub(crate) fn title(&self, id: &str) -> String {
        let node = &self.nodes.get(id);
        let text = |name: &str| node.and_then(|node| node.pointer(name)).and_then(Value::as_str);
        match (text("/_meta/title"), text("/class_type")) {
            (Some(title), Some(class)) if title != class => format!("{class} ({title:?})"),
            (_, Some(class)) => class.to_owned(),
            _ => format!("#{id}"),
        }
    }

    /// A copy to fill.
    #[must_use]
    pub fn fill(&self) -> Filled<'_> {
        Filled { workflow: self, nodes: self.nodes.clone() }
    }
}

/// A workflow that is being filled in for one run.
#[derive(Debug, Clone)]
pub struct Filled<'a> {
    pub(crate) workflow: &'a Workflow,
    pub(crate) nodes: Map<String, Value>,
}

impl Filled<'_> {
    /// Whether there is such a place.
    #[must_use]
    pub fn has(&self, place: Place) -> bool {
        self.workflow.has(place)
    }

    /// Fills a place that takes one value. Without the place nothing happens.
    #[must_use]
    pub fn with(self, place: Place, value: impl Into<Value>) -> Self {
        self.with_all(place, &[("", value.into())])
    }

    /// Fills a place that takes several values, by their names.
    #[must_use]
    pub fn with_all(mut self, place: Place, values: &[(&str, Value)]) -> Self {
        for id in self.workflow.places.get(&place).into_iter().flatten() {
            let Some(Value::Object(inputs)) = self.nodes.get_mut(id).and_then(|node| node.get_mut("inputs")) else {
                continue;
            };
            for (key, candidates) in place.inputs() {
                let Some((_, value)) = values.iter().find(|(name, _)| name == key) else { continue };
                for input in candidates.iter().copied() {
                    if let Some(to) = inputs.get_mut(input) {
                        *to = value.clone();
                    }
                }
            }
        }
        self
    }

    /// The node that the result comes out of.
    pub(crate) fn result(&self) -> &str {
        &self.workflow.places[&Place::Result][0]
    }
}

/// The places in a node's title, or a word that names none.
fn titled(node: &Value) -> Result<Vec<Place>, String> {
    let title = node["_meta"]["title"].as_str().unwrap_or_default().trim().to_lowercase();
    let Some(words) = title.strip_prefix(MARK) else { return Ok(Vec::new()) };
    let place = |word: &str| Place::ALL.iter().copied().find(|place| place.word() == word);
    let words = words.split([',', '+', '/', '&']).map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| place(word).ok_or_else(|| word.to_owned())).collect()
}

/// Whether a node can be filled in at a place.
fn fits(node: &Value, place: Place) -> Result<(), String> {
    let class = node["class_type"].as_str().unwrap_or_default();
    for (_, candidates) in place.inputs() {
        let mut there = candidates.iter().filter(|input| node["inputs"].get(input).is_some()).peekable();
        if there.peek().is_none() {
            return Err(format!(
                "has a node {class} titled \"{MARK} {}\", which has no input {}",
                place.word(),
                candidates.join(", ")
            ));
        }
        if let Some(input) = there.find(|input| node["inputs"][input].is_array()) {
            return Err(format!(
                "has a node {class} titled \"{MARK} {}\" whose input {input} comes from another node: give that one the title",
                place.word()
            ));
        }
    }
    Ok(())
}

fn unknown(name: &str, word: &str) -> Error {
    let words: Vec<&str> = Place::ALL.iter().map(|place| place.word()).collect();
    Error::Workflow {
        what: format!("{name} has a node titled \"{MARK} {word}\", which is not a place"),
        hint: format!("places are {}", words.join(", ")),
    }
}

const EXPORT: &str = "export it in ComfyUI with Workflow > Export (API)";
const TITLES: &str = "docs/guides/comfyui-generator.md lists the titles that nodes need; then export it again";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(nodes: &Value) -> Result<Workflow, Error> {
        Workflow::parse("mine.json", nodes.to_string().as_bytes())
    }

    fn node(class: &str, title: &str, inputs: Value) -> Value {
        json!({ "class_type": class, "inputs": inputs, "_meta": { "title": title } })
    }

    #[test]
    fn titles_say_what_is_filled_in_where() {
        let workflow = read(&json!({
            "1": node("LoadImage", "enlarger: source", json!({ "image": "a.png" })),
            "2": node("KSampler", "Enlarger: seed, steps, denoise + guidance",
                json!({ "seed": 1, "steps": 20, "cfg": 8.0, "denoise": 1.0, "model": ["9", 0] })),
            "3": node("CLIPTextEncodeFlux", "enlarger: prompt", json!({ "clip_l": "", "t5xxl": "", "guidance": 3.5 })),
            "4": node("PreviewImage", "enlarger: result", json!({ "images": ["2", 0] })),
            "5": node("Note", "something else", json!({})),
        }))
        .unwrap();
        assert!(workflow.has(Place::Denoise) && !workflow.has(Place::Hint));
        let filled = workflow
            .fill()
            .with(Place::Source, "b.png")
            .with(Place::Seed, 7)
            .with(Place::Guidance, 3.0)
            .with(Place::Prompt, "moss")
            .with(Place::Hint, "nowhere");
        assert_eq!(filled.nodes["1"]["inputs"], json!({ "image": "b.png" }));
        assert_eq!(
            filled.nodes["2"]["inputs"],
            json!({ "seed": 7, "steps": 20, "cfg": 3.0, "denoise": 1.0, "model": ["9", 0] })
        );
        assert_eq!(filled.nodes["3"]["inputs"], json!({ "clip_l": "moss", "t5xxl": "moss", "guidance": 3.5 }));
        assert_eq!((filled.result(), workflow.name(), workflow.sha256().len()), ("4", "mine", 64));
    }

    #[test]
    fn what_is_no_workflow_or_lacks_a_place_is_refused_with_what_to_do() {
        let source = node("LoadImage", "enlarger: source", json!({ "image": "a.png" }));
        let result = node("SaveImage", "enlarger: result", json!({ "images": ["1", 0] }));
        for (nodes, said) in [
            (json!({ "nodes": [], "links": [] }), "is saved in the format of ComfyUI's page"),
            (json!([1]), "is not a workflow"),
            (json!({}), "API format"),
            (json!({ "1": { "class_type": "LoadImage" } }), "API format"),
            (json!({ "1": source }), "has no node titled \"enlarger: result\""),
            (json!({ "2": result }), "has no node titled \"enlarger: source\""),
            (json!({ "1": source, "2": result, "3": source }), "more than one (2) node titled \"enlarger: source\""),
            (
                json!({ "1": source, "2": node("SaveImage", "enlarger: reslut", json!({})) }),
                "\"enlarger: reslut\", which is not a place",
            ),
            (
                json!({ "1": node("LoadImage", "enlarger: seed", json!({ "image": "" })) }),
                "no input seed, noise_seed, value",
            ),
            (
                json!({ "1": node("KSampler", "enlarger: seed", json!({ "seed": ["7", 0] })) }),
                "comes from another node",
            ),
        ] {
            let error = read(&nodes).unwrap_err();
            assert!(error.to_string().contains(said), "{said}: {error}");
        }
        assert!(Workflow::parse("a.json", b"<html>").unwrap_err().to_string().contains("not a workflow"));
    }

    #[test]
    fn the_bundled_workflows_have_every_place_that_they_can() {
        for place in Place::ALL.iter().copied() {
            assert!(Workflow::bundled(true).has(place), "{place:?}");
            let control = matches!(place, Place::Hint | Place::Control | Place::Strength);
            assert_eq!(Workflow::bundled(false).has(place), !control, "{place:?}");
        }
    }
}
