//! What a person asks for, independent of any wire format or command line.

use serde::{Deserialize, Serialize};

/// One job: how large, in which manner, with which network.
///
/// Stored with a task as JSON, so every field has a default and unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The size of the result.
    pub size: Size,
    /// Which knobs apply, and their values.
    pub look: Look,
    /// A model's name from the catalogue; `None` lets the plan choose.
    pub model: Option<String>,
    /// Seed of everything random; `None` derives it from picture and request, so that the same request gives the same bytes.
    pub seed: Option<u64>,
    /// Only this part of the source, for a preview. `None` is all of it.
    pub crop: Option<Crop>,
    /// Quickly rather than well: by the smallest network, whatever `model` says. The knobs apply.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draft: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self { size: Size::Factor(2.0), look: Look::default(), model: None, seed: None, crop: None, draft: false }
    }
}

/// How large the result is to be. The source's aspect is always kept.
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

/// The manner of enlarging: the two families of Magnific's knobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Look {
    /// Detail may be invented.
    Creative(Creative),
    /// Detail is sharpened, not invented.
    Precision(Precision),
}

impl Default for Look {
    fn default() -> Self {
        Self::Creative(Creative::default())
    }
}

/// The creative knobs; each is -10..=10 with 0 neutral.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Creative {
    /// Invent detail (up) or restrain (down).
    pub creativity: i8,
    /// Definition and local contrast.
    pub hdr: i8,
    /// Closeness to the original.
    pub resemblance: i8,
    /// Intricacy per square pixel.
    pub fractality: i8,
    /// Which family of networks and treatment.
    pub engine: Engine,
    /// What is in the picture.
    pub optimized_for: OptimizedFor,
    /// Text that a generative engine is guided by; other engines may only choose a preset from it.
    pub prompt: Option<String>,
}

/// Magnific's engines. The wire names are the contract's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Chosen from the picture's facts.
    #[default]
    Automatic,
    /// Smooth; cleans JPEG.
    MagnificIllusio,
    /// Sharpest; keeps grain.
    MagnificSharpy,
    /// The natural middle.
    MagnificSparkle,
}

/// What the picture shows. The wire names are the contract's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum OptimizedFor {
    #[default]
    Standard,
    SoftPortraits,
    HardPortraits,
    #[serde(rename = "art_n_illustration")]
    ArtNIllustration,
    VideogameAssets,
    #[serde(rename = "nature_n_landscapes")]
    NatureNLandscapes,
    #[serde(rename = "films_n_photography")]
    FilmsNPhotography,
    #[serde(rename = "3d_renders")]
    ThreeDRenders,
    #[serde(rename = "science_fiction_n_horror")]
    ScienceFictionNHorror,
}

/// The precision knobs; each is 0..=100.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Precision {
    /// Edge sharpening.
    pub sharpen: u8,
    /// Photographic grain against a plastic look.
    pub smart_grain: u8,
    /// The finest detail bands.
    pub ultra_detail: u8,
    /// The family of networks.
    pub flavor: Option<Flavor>,
}

impl Default for Precision {
    fn default() -> Self {
        Self { sharpen: 7, smart_grain: 7, ultra_detail: 30, flavor: None }
    }
}

/// Precision V2's flavours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavor {
    /// Art and illustration.
    Sublime,
    /// Photographs.
    Photo,
    /// Noisy photographs.
    PhotoDenoiser,
}
