//! What a user asks for, independent of any wire format or command line.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    error::Part,
    knobs::{Knobs, knobs},
};

/// One job: which size, which style, which network.
///
/// Stored with a task as JSON, so every field has a default and unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The size of the result.
    pub size: Size,
    /// Which knobs apply, and their values.
    #[serde(rename = "look")]
    pub style: Style,
    /// A model's name from the catalogue; `None` lets the plan choose.
    pub model: Option<String>,
    /// Seed of everything random; `None` derives it from picture and request, so that the same request gives the same bytes.
    pub seed: Option<u64>,
    /// Only this part of the source, for a preview. `None` is all of it.
    pub crop: Option<Crop>,
    /// Quality against speed. The knobs apply to all. Earlier versions wrote `"draft": true` or `false` instead.
    #[serde(alias = "draft", deserialize_with = "quality_or_draft", skip_serializing_if = "Quality::is_best")]
    pub quality: Quality,
    /// The generative engine; `None` leaves it out. It works with the creative style only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generative: Option<Generative>,
}

impl Default for Request {
    fn default() -> Self {
        let (size, style) = (Size::Factor(2.0), Style::default());
        Self { size, style, model: None, seed: None, crop: None, quality: Quality::Best, generative: None }
    }
}

impl Request {
    /// Whether it asks for what only a generative engine can do: it has a prompt or creativity above 0, and quality counts.
    pub(crate) fn asks_to_draw(&self) -> bool {
        let Style::Creative(knobs) = &self.style else { return false };
        let prompted = knobs.prompt.as_ref().is_some_and(|prompt| !prompt.trim().is_empty());
        self.quality == Quality::Best && self.model.is_none() && (prompted || knobs.creativity > 0)
    }
}

impl Generative {
    /// Says that the engine is left out, whatever is configured.
    pub const NONE: &str = "none";

    /// Where it names no checkpoint: with the usual one and what goes with that, as far as it says nothing of those.
    #[must_use]
    pub(crate) fn or(self, usual: &Self) -> Self {
        if self.checkpoint.is_some() {
            return self;
        }
        let Self { checkpoint, control, vae, loras, .. } = usual.clone();
        Self {
            checkpoint,
            control: self.control.or(control),
            vae: self.vae.or(vae),
            loras: if self.loras.is_empty() { loras } else { self.loras },
            ..self
        }
    }

    /// Whether a part of it is the usual one.
    pub(crate) fn takes(&self, usual: &Self, part: Part) -> bool {
        match part {
            Part::Checkpoint => usual.checkpoint.is_some() && self.checkpoint == usual.checkpoint,
            Part::Control => usual.control.is_some() && self.control == usual.control,
            Part::Vae => usual.vae.is_some() && self.vae == usual.vae,
            Part::Loras => !usual.loras.is_empty() && self.loras == usual.loras,
            _ => false,
        }
    }

    /// Whether it is left out.
    pub(crate) fn is_none(&self) -> bool {
        self.checkpoint.as_deref() == Some(Self::NONE)
    }
}

/// What the generative engine works with. Files are named, without folder and extension, as `enlarger models scan` lists them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generative {
    /// The checkpoint; `None` is the usual one, or the only one that is found, and `"none"` leaves the engine out.
    pub checkpoint: Option<String>,
    /// The ControlNet that keeps the result close to the source. `None` is the one found for the checkpoint's family whose name says
    /// "tile"; `"none"` is none.
    pub control: Option<String>,
    /// A VAE instead of the checkpoint's.
    pub vae: Option<String>,
    /// LoRAs with their strengths. `<lora:NAME:0.5>` in a prompt adds one, too.
    pub loras: Vec<Lora>,
    /// What the result shall not show; `None` is a usual list of faults.
    pub negative: Option<String>,
    /// Steps of a whole schedule, of which creativity decides how many are run; `None` is 18, for LCM 8.
    pub steps: Option<u32>,
    /// The sampler.
    pub sampler: Sampler,
    /// Classifier-free guidance instead of what `hdr` means; 1 for checkpoints that are distilled to need none.
    pub guidance: Option<f32>,
    /// Layers of the text encoder that are left out, counted as A1111 does: 1 is none.
    pub clip_skip: Option<u32>,
    /// Whether the result continues at its other side, as a repeated texture does.
    pub seamless: bool,
    /// Areas of the source that the engine leaves as they are, such as faces.
    pub keep: Vec<Crop>,
}

/// A LoRA with its strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Its name.
    pub name: String,
    /// 1 is as trained; negative values turn it round.
    #[serde(default = "as_trained")]
    pub strength: f32,
}

/// `NAME` or `NAME:STRENGTH`.
impl FromStr for Lora {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // The colon of `C:\\loras\\film` is followed by folders.
        let given = text.rsplit_once(':').filter(|(_, strength)| !strength.contains(['/', '\\']));
        let (name, strength) = given.map_or((text, "1"), |(name, strength)| (name, strength.trim()));
        match strength.parse::<f32>() {
            Ok(strength) if strength.is_finite() && !name.is_empty() => Ok(Self { name: name.to_owned(), strength }),
            Ok(strength) if strength.is_finite() => {
                Err("expected a name before the strength, such as more_details:0.5".into())
            }
            _ => Err(format!("{strength:?} is not a strength: expected a number, such as more_details:0.5")),
        }
    }
}

fn as_trained() -> f32 {
    1.0
}

/// A quality by its name, or whether it is a draft.
fn quality_or_draft<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Quality, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "quality must be draft, fast or best")]
    enum Given {
        Quality(Quality),
        Draft(bool),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Given::Quality(quality)) => quality,
        Some(Given::Draft(true)) => Quality::Draft,
        Some(Given::Draft(false)) | None => Quality::Best,
    })
}

/// The size of the result. The source's aspect ratio is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Times as wide and as high, 1.0 to 16.0.
    Factor(f64),
    /// This many pixels wide.
    Width(u32),
    /// This many pixels high.
    Height(u32),
}

/// A part of the source picture, in pixels of the upright source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crop {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

/// The style: the two families of Magnific's knobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Style {
    /// May add detail.
    Creative(Creative),
    /// Sharpens detail, adds none.
    Precision(Precision),
}

impl Style {
    /// Whether a flat set of settings means [`Style::Precision`]: any setting of its family does. `given` says which settings there are, by
    /// their names on the wire.
    ///
    /// # Errors
    /// A setting of each family, if both are there: creative first.
    pub fn is_precision(given: impl Fn(&str) -> bool) -> Result<bool, (&'static str, &'static str)> {
        fn names<F: Knobs>() -> impl Iterator<Item = &'static str> {
            F::KNOBS.iter().map(|knob| knob.name)
        }
        let creative = names::<Creative>().chain(["engine", "optimized_for", "prompt"]).find(|name| given(name));
        let precision = names::<Precision>().chain(["flavor"]).find(|name| given(name));
        match (creative, precision) {
            (Some(creative), Some(precision)) => Err((creative, precision)),
            (_, precision) => Ok(precision.is_some()),
        }
    }
}

impl Default for Style {
    fn default() -> Self {
        Self::Creative(Creative::default())
    }
}

knobs! {
    /// The creative family: may add detail.
    Creative: i8 in [-10..=10] {
        creativity = 0, "Creativity", "How much new detail to add. Lower values add less.";
        hdr = 0, "HDR", "Definition and local contrast. High values look artificial.";
        resemblance = 0, "Resemblance", "How closely the result follows the original.";
        fractality = 0, "Fractality", "How fine the added texture is. Lower values cause fewer artifacts.";
    }
    /// Which networks and filters.
    engine: Engine;
    /// What the image shows.
    optimized_for: OptimizedFor;
    /// Text to guide the generative engine; without that it only chooses a preset.
    prompt: Option<String>;
}

/// Declares choices by their names on the wire, which the contract fixes, and a description: the single source for
/// JSON, accepted values and help texts.
macro_rules! choices {
    ($(#[$about:meta])* $choices:ident { $($(#[$extra:meta])* $choice:ident = $name:literal, $what:literal;)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $choices {
            $(#[doc = $what] $(#[$extra])* #[serde(rename = $name)] $choice,)+
        }

        impl $choices {
            /// All choices, in the order in which they are offered.
            pub const ALL: &[Self] = &[$(Self::$choice),+];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$choice => $name),+ }
            }

            /// What it is, in a few words.
            pub fn what(self) -> &'static str {
                match self { $(Self::$choice => $what),+ }
            }
        }
    };
}

choices! {
    /// Quality against speed.
    #[derive(Default)]
    Quality {
        Draft = "draft", "a quick look with the smallest model, whatever model is chosen";
        Fast = "fast", "one small model, unless you choose another";
        #[default] Best = "best", "the models that suit the image";
    }
}

impl Quality {
    fn is_best(&self) -> bool {
        *self == Self::Best
    }
}

choices! {
    /// How the generative engine takes noise away.
    #[derive(Default)]
    Sampler {
        #[default] Dpmpp2m = "dpmpp_2m", "DPM++ 2M Karras; draws no noise of its own";
        Euler = "euler", "Euler";
        EulerAncestral = "euler_a", "Euler ancestral; draws noise at each step";
        Ddim = "ddim", "DDIM";
        Lcm = "lcm", "LCM, for checkpoints or LoRAs distilled for it: few steps, no guidance";
    }
}

choices! {
    /// Magnific's engines.
    #[derive(Default)]
    Engine {
        #[default] Automatic = "automatic", "chosen to suit the image";
        MagnificIllusio = "magnific_illusio", "smooth; removes JPEG artifacts";
        MagnificSharpy = "magnific_sharpy", "crisp; keeps grain";
        MagnificSparkle = "magnific_sparkle", "natural; between illusio and sharpy";
    }
}

impl Engine {
    /// The name without the vendor's prefix.
    pub fn short(self) -> &'static str {
        let name = self.name();
        name.strip_prefix("magnific_").unwrap_or(name)
    }
}

choices! {
    /// What the picture shows.
    #[derive(Default)]
    OptimizedFor {
        #[default] Standard = "standard", "anything";
        SoftPortraits = "soft_portraits", "portraits, soft";
        HardPortraits = "hard_portraits", "portraits, sharp detail";
        ArtNIllustration = "art_n_illustration", "drawings and paintings";
        VideogameAssets = "videogame_assets", "sprites and textures";
        NatureNLandscapes = "nature_n_landscapes", "nature and landscapes";
        FilmsNPhotography = "films_n_photography", "photographs with grain";
        ThreeDRenders = "3d_renders", "computer graphics";
        ScienceFictionNHorror = "science_fiction_n_horror", "science fiction and horror";
    }
}

knobs! {
    /// The precision family: sharpens detail, adds none.
    Precision: u8 in [0..=100] {
        sharpen = 7, "Sharpen", "How crisp edges are.";
        smart_grain = 7, "Smart grain", "Fine grain that keeps surfaces from looking plastic.";
        ultra_detail = 30, "Ultra detail", "How strongly the finest details are emphasized.";
    }
    /// The family of networks.
    flavor: Option<Flavor>;
}

choices! {
    /// Precision V2's flavours.
    Flavor {
        Sublime = "sublime", "art and illustration";
        Photo = "photo", "photographs";
        PhotoDenoiser = "photo_denoiser", "noisy photographs";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Request, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn requests_that_earlier_versions_stored_are_read() {
        let stored = |rest: &str| {
            format!(
                r#"{{"size":{{"factor":4.0}},"look":{{"mode":"creative","creativity":3}},"model":null,"seed":7,"crop":null{rest}}}"#
            )
        };
        for (rest, quality) in [
            ("", Quality::Best),
            (r#","draft":true"#, Quality::Draft),
            (r#","draft":false"#, Quality::Best),
            (r#","quality":"fast""#, Quality::Fast),
            (r#","quality":null"#, Quality::Best),
        ] {
            let request = read(&stored(rest)).unwrap_or_else(|error| panic!("{rest}: {error}"));
            let style = Style::Creative(Creative { creativity: 3, ..Creative::default() });
            assert_eq!(
                request,
                Request { size: Size::Factor(4.0), style, seed: Some(7), quality, ..Request::default() }
            );
        }
    }

    #[test]
    fn a_lora_has_a_strength_of_one_unless_it_says_otherwise() {
        let read = |text: &str| text.parse::<Lora>().map(|lora| (lora.name, lora.strength));
        assert_eq!(read("more_details:0.5"), Ok(("more_details".into(), 0.5)));
        assert_eq!(read("film.safetensors:-1"), Ok(("film.safetensors".into(), -1.0)));
        assert_eq!(read("film"), Ok(("film".into(), 1.0)));
        assert_eq!(read(r"C:\loras\film"), Ok((r"C:\loras\film".into(), 1.0)));
        for wrong in [":0.5", "", "a:inf", "a:nan", "a:abc", "a:", "a:0.5:x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("x:abc").is_err_and(|why| why.starts_with("\"abc\" is not a strength")));
    }

    #[test]
    fn a_prompt_or_creativity_asks_to_draw_unless_a_model_or_another_quality_is_chosen() {
        let asks = |creativity, prompt: Option<&str>, quality, model: Option<&str>| {
            let style = Style::Creative(Creative { creativity, prompt: prompt.map(Into::into), ..Creative::default() });
            Request { style, quality, model: model.map(Into::into), ..Request::default() }.asks_to_draw()
        };
        assert!(asks(1, None, Quality::Best, None) && asks(-5, Some("moss"), Quality::Best, None));
        assert!(!asks(0, None, Quality::Best, None) && !asks(0, Some(" "), Quality::Best, None));
        assert!(!asks(5, None, Quality::Fast, None) && !asks(5, Some("moss"), Quality::Draft, None));
        assert!(!asks(5, Some("moss"), Quality::Best, Some("x4plus")));
        assert!(!Request { style: Style::Precision(Precision::default()), ..Request::default() }.asks_to_draw());
    }

    #[test]
    fn every_quality_survives_being_stored_and_nothing_else_is_read_as_one() {
        for &quality in Quality::ALL {
            let request = Request { quality, ..Request::default() };
            let json = serde_json::to_string(&request).expect("plain data");
            assert_eq!(read(&json), Ok(request), "{json}");
        }
        for wrong in [r#"{"quality":"good"}"#, r#"{"quality":90}"#, r#"{"quality":"Fast"}"#, r#"{"draft":"yes"}"#] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.starts_with("quality must be draft, fast or best"), "{wrong}: {error}");
        }
        assert!(read(r#"{"quality":"best","draft":true}"#).is_err(), "they contradict each other");
    }
}
