//! What is measured of a picture, once, before planning.

mod grain;
mod pixels;
mod regions;
mod sharpness;
mod subject;
mod survey;

use std::cell::LazyCell;

use enlarger_image::{Picture, Sample, with_samples};
use serde::{Deserialize, Serialize};

use crate::{
    classifier::{KINDS, Logits},
    dither, faces,
};

pub(crate) use pixels::PixelArt;
pub use regions::Region;
use sharpness::Sharpness;
pub(crate) use subject::Asked;
pub use subject::Subject;
use survey::Survey;

/// Everything that a plan may depend on besides the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// 1 or 3 colour channels.
    #[serde(rename = "colors", alias = "colours")]
    pub colours: u8,
    /// Whether red, green and blue are equal in all pixels.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grey: bool,
    /// Whether any pixel is not opaque.
    pub transparent: bool,
    /// 8 or 16.
    pub bits: u8,
    /// How much compression or noise shows, 0..=1 in hundredths.
    pub damaged: f32,
    /// The quality that its file was saved with as JPEG, 1..=100, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jpeg_quality: Option<u8>,
    /// How soft it is, 0..=1 in hundredths: out of focus, or enlarged before.
    pub soft: f32,
    /// Whether half its size shows all of its detail: it is far out of focus, or was enlarged much before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oversampled: bool,
    /// How often it is smoothed before it is enlarged: a photo in few colours, such as a GIF or a scan in black and white.
    #[serde(default, skip_serializing_if = "crate::omit::is_default")]
    pub dithered: u8,
    /// How much it looks drawn, 0..=1 in hundredths: flat art, lines, text, screens.
    pub drawn: f32,
    /// What it shows, according to the numbers above.
    pub content: Content,
    /// Its condition, according to the numbers above.
    pub condition: Condition,
    /// Parts that show something else, such as a photograph on a page. The numbers above are without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// What only some styles ask for, and is measured for them alone.
    #[serde(default, skip_serializing_if = "Subject::is_unknown")]
    pub subject: Subject,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A photograph or a render.
    Photo,
    /// Drawing, cartoon, text or screen.
    Art,
}

/// The condition of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing that one sees.
    Clean,
    /// Compression blocks or noise.
    Damaged,
    /// It is out of focus, or was enlarged before.
    Soft,
}

impl Statistics {
    /// A description for a plan.
    pub(crate) fn words(&self) -> &'static str {
        words(self.content, self.condition)
    }
}

fn words(content: Content, condition: Condition) -> &'static str {
    match (content, condition) {
        (Content::Photo, Condition::Clean) => "a clean photograph",
        (Content::Photo, Condition::Damaged) => "a photograph with noise or compression blocks",
        (Content::Photo, Condition::Soft) => "a soft photograph",
        (Content::Art, Condition::Clean) => "flat art",
        (Content::Art, Condition::Damaged) => "flat art with noise or compression blocks",
        (Content::Art, Condition::Soft) => "soft flat art",
    }
}

/// Above these a picture is what they say. Of pictures that the classifier was not trained on
/// (`docs/reference/quality.md`), all but two of 42 clean ones had at most 0.48 of damage and 0.36 of softness; as JPEG
/// 50, at any phase, they had at least 0.7, saved twice mostly more than 0.42.
const DAMAGED: f32 = 0.4;
const SOFT: f32 = 0.4;
/// Photos with noise have up to 0.71; of 70 drawings, clean or as JPEG 60, at least 62 have more.
const DRAWN: f32 = 0.72;
/// Above so much damage little else is seen: of 756 small parts of photos as JPEG 50 or 30 none of those has more than the second,
/// and of 140 drawings as JPEG 60 or 40 that loses one.
const RUINED: f32 = 0.9;
const DRAWN_THOUGH_RUINED: f32 = 0.9;

/// The least damage of what is in few colours.
const DITHERED: f32 = 0.5;

/// Side of the smallest pictures that the classifier was trained on. Of smaller drawings it says little: of 32 icons of 16 pixels, 17 got another
/// verdict when they were shifted by one pixel or cropped by three. Where they are transparent they are neither JPEG nor photographs.
const WINDOW: u32 = 64;

impl Statistics {
    /// Measures a picture. Deterministic on every machine; looks at about 8 megapixels at most.
    pub fn of(picture: &Picture) -> Self {
        Self::with_subject(picture, |_| Asked::default())
    }

    /// Measures a picture, and finds what a style asks for when it sees the rest. Faces are searched for once at most.
    pub(crate) fn with_subject(picture: &Picture, ask: impl FnOnce(&Self) -> Asked) -> Self {
        let faces = LazyCell::new(|| faces::find(picture));
        let (survey, dithered) = survey(picture);
        let sharpness = Sharpness::of(picture);
        let transparent = is_transparent(picture);
        let is_icon = transparent && picture.width.min(picture.height) < WINDOW;
        let probable = |logits| {
            let [damaged, soft, drawn] = probable(logits);
            if dithered.is_some() {
                return [damaged.max(DITHERED), 0.0, drawn];
            }
            if is_icon && drawn > DRAWN { [0.0, 0.0, drawn] } else { [damaged, soft.max(sharpness.soft), drawn] }
        };
        let whole = probable(survey.mean(survey.places()).expect("a picture has pixels"));
        let shows = content(whole);
        let unsure = shows == Content::Art && whole[2] <= DRAWN_WITH_A_FACE;
        let content = if unsure && !faces.is_empty() { Content::Photo } else { shows };
        let regions = regions::find(&survey, content, condition(whole));
        // The numbers describe the picture outside its regions.
        let outside = |place: &[usize; 2]| !regions.iter().any(|region| region.holds(&survey, *place));
        let rest = survey.mean(survey.places().filter(outside)).map(probable);
        let [damaged, soft, drawn] = rest.unwrap_or(whole);
        let mut statistics = Self {
            width: picture.width,
            height: picture.height,
            colours: picture.channels.colours() as u8,
            grey: is_grey(picture),
            transparent,
            bits: picture.samples.bits(),
            damaged,
            jpeg_quality: picture.metadata.jpeg_quality,
            soft,
            oversampled: sharpness.oversampled && dithered.is_none(),
            dithered: dithered.unwrap_or(0),
            drawn,
            content,
            condition: condition([damaged, soft, drawn]),
            regions,
            subject: Subject::default(),
        };
        let mut asked = ask(&statistics);
        // Strong dots that make a photo when they are smoothed are no sprite, unless a person says so.
        if dithered.is_some_and(|rounds| rounds > 0) && asked.pixels == PixelArt::Evident {
            asked.pixels = PixelArt::Unasked;
        }
        statistics.subject = Subject::of(picture, asked, || faces.clone());
        statistics
    }
}

/// The classifier's verdict. If the picture had to be smoothed to look like the photo that it is, also how often it is to be smoothed before it
/// is enlarged.
fn survey(picture: &Picture) -> (Survey, Option<u8>) {
    let seen = dither::found(picture).and_then(|dither| {
        let survey = Survey::of(&dither::smoothed(picture, dither.to_see).ok()?);
        let is_photo = survey.mean(survey.places()).map(probable).is_some_and(|[_, _, drawn]| drawn <= DRAWN);
        is_photo.then_some((survey, Some(dither.to_enlarge)))
    });
    seen.unwrap_or_else(|| (Survey::of(picture), None))
}

/// Whether an RGB picture is grey.
fn is_grey(picture: &Picture) -> bool {
    fn all<T: Sample>(samples: &[T], n: usize) -> bool {
        samples.chunks_exact(n).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2])
    }
    let n = picture.channels.count();
    n >= 3 && with_samples!(&picture.samples, s => all(s, n))
}

fn is_transparent(picture: &Picture) -> bool {
    fn any<T: Sample>(samples: &[T], n: usize) -> bool {
        samples.iter().skip(n - 1).step_by(n).any(|&alpha| alpha != T::MAX)
    }
    let n = picture.channels.count();
    picture.channels.has_alpha() && with_samples!(&picture.samples, s => any(s, n))
}

/// With a face in it a picture is called drawn above this alone: of 90 x 90 pixels, portraits reached 0.81. A drawn face that is taken for a
/// photographed one comes out softer; a photographed one that is taken for drawn is lost.
const DRAWN_WITH_A_FACE: f32 = 0.9;

/// What some probabilities say it shows.
fn content([damaged, _, drawn]: [f32; KINDS]) -> Content {
    let limit = if damaged > RUINED { DRAWN_THOUGH_RUINED } else { DRAWN };
    if drawn > limit { Content::Art } else { Content::Photo }
}

/// What some probabilities say it suffers from.
fn condition([damaged, soft, _]: [f32; KINDS]) -> Condition {
    match () {
        () if damaged > DAMAGED => Condition::Damaged,
        () if soft > SOFT => Condition::Soft,
        () => Condition::Clean,
    }
}

/// Logits as probabilities, in hundredths.
fn probable(logits: Logits) -> [f32; KINDS] {
    logits.map(|logit| (100.0 / (1.0 + (-logit).exp())).round() / 100.0)
}
