//! What `optimized_for` and `engine` mean, as data.

use crate::{
    request::{Creative, Engine, Flavor, OptimizedFor, Style},
    statistics::{Asked, Condition, Content, PixelArt},
};

/// Which network enlarges what: `MODEL`, `MODEL+OTHER@SHARE` (the mean of two) or `FIRST/MODEL` (the first cleans, the second
/// enlarges).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByCondition {
    /// Pictures without visible damage.
    clean: &'static str,
    /// Those, if they become at most twice as large and no detail is to be added.
    twice: &'static str,
    /// Pictures with noise or compression blocks, which [`DF2K`] would draw: even a fifth of it shows as dots around edges.
    damaged: &'static str,
    /// Pictures that are out of focus or were enlarged before.
    soft: &'static str,
    /// Pictures that are not clean, if detail is to be added: it must not grow out of noise and blocks.
    restored: &'static str,
    /// What makes every pass after the first, beyond 4x.
    again: Option<&'static str>,
    /// What [`Quality::Fast`](crate::request::Quality::Fast) uses instead.
    fast: Fast,
}

/// Small networks, each used alone: no blending, and no cleaning first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fast {
    /// Pictures without visible damage that become at most twice as large. A 2x network is enough.
    twice: &'static str,
    /// Pictures without visible damage that become larger.
    clean: &'static str,
    /// Pictures that are damaged or soft.
    otherwise: &'static str,
}

impl ByCondition {
    /// The same for all, but for the small ones.
    const fn one(name: &'static str) -> Self {
        Self { clean: name, twice: name, damaged: name, soft: name, restored: name, again: None, fast: FAST }
    }

    /// The one for passes after the first, if it is another.
    pub fn again(&self) -> Option<&'static str> {
        self.again
    }

    /// The small one for a condition and a factor.
    pub fn fast(&self, condition: Condition, factor: f32) -> &'static str {
        match condition {
            Condition::Clean if factor <= 2.0 => self.fast.twice,
            Condition::Clean => self.fast.clean,
            Condition::Damaged | Condition::Soft => self.fast.otherwise,
        }
    }

    /// The best for a condition and a factor.
    pub fn of(&self, condition: Condition, inventing: bool, factor: f32) -> &'static str {
        match condition {
            Condition::Clean if factor <= 2.0 && !inventing => self.twice,
            Condition::Clean => self.clean,
            Condition::Damaged | Condition::Soft if inventing => self.restored,
            Condition::Damaged => self.damaged,
            Condition::Soft => self.soft,
        }
    }
}

/// The networks for a kind of picture, and how much of each treatment it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Preset {
    /// What it is for.
    pub of: OptimizedFor,
    /// Its networks.
    pub networks: ByCondition,
    /// Gain of the finest detail, whatever the knobs say.
    pub crisp: f32,
    /// Local contrast, whatever the knobs say.
    pub contrast: f32,
    /// Contrast of tones, likewise.
    pub curve: f32,
    /// How much detail a creativity of 0 adds, as a share of what 10 adds.
    pub base: f32,
    /// Gains of skin and of features where faces are found, instead of [`Self::crisp`] everywhere.
    pub face: Option<[f32; 2]>,
    /// Whether colours are limited to the source's, see [`Filter::Bound`](super::Filter::Bound).
    pub exact: bool,
    /// Whether the source's grain, which cleaning takes away, is made again.
    pub grain: bool,
    /// Whether what may be pixel art is enlarged by whole pixels, not only what is without a doubt.
    pub pixels: bool,
    /// Factor on the detail that creativity and fractality add.
    pub invent: f32,
    /// Factor on what hdr does.
    pub dynamic: f32,
    /// Words of a prompt that choose it.
    pub words: &'static [&'static str],
}

const DF2K: &str = "realsr-df2k";
const X4PLUS: &str = "x4plus";
const SMALL: &str = "animevideo-v3";
/// Half-way between the photo networks: natural texture, with half the artefacts of each.
const MIDDLE: &str = "realsr-df2k+x4plus@0.5";
/// Without errors that [`DF2K`] would draw, and with softer mistakes than [`X4PLUS`] alone, which tears small faces that are out of
/// focus.
const CLEANED: &str = "x4plus+animevideo-v3@0.3";
/// Cleaned by one network, enlarged by the other: crisper than the first alone, and the second has no damage to draw.
const RESTORED: &str = "x4plus/realsr-df2k";
/// Made for 2x, and as close to the truth there as [`PHOTO`], at a thirtieth of its cost
/// (docs/reference/quality.md).
pub(super) const TWICE: &str = "photo-2x";
const FAST: Fast = Fast { twice: SMALL, clean: SMALL, otherwise: SMALL };
/// A network blended with the small one: detail that only one of the two adds becomes weaker, what both see stays.
/// Closer to the truth than any one network on every kind of input (docs/reference/quality.md), for a thirtieth more
/// time.
const PHOTO: ByCondition = ByCondition {
    clean: "realsr-df2k+animevideo-v3@0.3",
    twice: TWICE,
    damaged: CLEANED,
    soft: CLEANED,
    restored: RESTORED,
    again: None,
    fast: Fast { twice: TWICE, ..FAST },
};
/// Whatever has texture keeps it.
const CRISP: ByCondition = ByCondition { damaged: RESTORED, soft: RESTORED, ..PHOTO };
/// Exact edges: renders have neither grain nor stray hairs.
const RENDER: ByCondition = ByCondition { clean: DF2K, twice: DF2K, ..PHOTO };
/// Foliage, rock and fur: as much texture as there is.
const NATURE: ByCondition = ByCondition { clean: DF2K, ..CRISP };
/// Drawings, pages and screens: letters keep their shapes and screens of dots stay dots, clean or damaged. A network trained on anime alone
/// makes them stripes, but draws soft edges best, and with it those of the first pass (docs/reference/quality.md).
const ART: ByCondition = ByCondition {
    soft: "x4plus-anime-6b+x4plus@0.5",
    again: Some("x4plus-anime-6b"),
    ..ByCondition::one("x4plus+animevideo-v3@0.5")
};

/// Whether a network makes texture of noise. The others take noise away.
pub(super) fn makes_texture(network: &str) -> bool {
    network == DF2K
}

/// Skin takes little added detail and less contrast: pores become warts. Foliage and rock take most.
pub(super) const PRESETS: [Preset; 9] = {
    use OptimizedFor::*;
    let plain = Preset {
        of: Standard,
        networks: PHOTO,
        crisp: 0.0,
        contrast: 0.0,
        curve: 0.0,
        base: 0.0,
        face: None,
        exact: false,
        grain: false,
        pixels: false,
        invent: 1.0,
        dynamic: 1.0,
        words: &[],
    };
    [
        plain,
        Preset {
            of: SoftPortraits,
            crisp: -0.35,
            contrast: -0.1,
            face: Some([-0.9, 0.3]),
            invent: 0.4,
            dynamic: 0.5,
            words: &[
                "portrait", "face", "woman", "man", "girl", "boy", "baby", "child", "bride", "selfie", "person",
                "people",
            ],
            ..plain
        },
        Preset {
            of: HardPortraits,
            crisp: 0.3,
            contrast: 0.2,
            face: Some([0.7, 0.7]),
            invent: 0.7,
            dynamic: 0.9,
            words: &["wrinkles", "beard", "weathered", "rugged", "warrior", "old man", "old woman"],
            ..plain
        },
        Preset {
            of: ArtNIllustration,
            networks: ART,
            invent: 0.7,
            dynamic: 0.8,
            words: &[
                "illustration",
                "drawing",
                "painting",
                "anime",
                "manga",
                "cartoon",
                "comic",
                "watercolor",
                "sketch",
            ],
            ..plain
        },
        Preset {
            of: VideogameAssets,
            networks: ART,
            crisp: 0.3,
            contrast: 0.1,
            pixels: true,
            invent: 0.6,
            dynamic: 0.8,
            words: &["videogame", "video game", "sprite", "sprites", "pixel art", "game asset", "game icon"],
            ..plain
        },
        Preset {
            of: NatureNLandscapes,
            networks: NATURE,
            crisp: 0.2,
            contrast: 0.15,
            base: 0.35,
            invent: 1.3,
            dynamic: 1.1,
            words: &[
                "landscape",
                "forest",
                "mountain",
                "mountains",
                "tree",
                "trees",
                "flower",
                "flowers",
                "sea",
                "beach",
                "river",
                "lake",
                "nature",
                "garden",
                "sky",
                "animal",
                "bird",
            ],
            ..plain
        },
        Preset {
            of: FilmsNPhotography,
            networks: CRISP,
            crisp: 0.1,
            contrast: 0.1,
            curve: 0.25,
            grain: true,
            invent: 0.8,
            dynamic: 0.9,
            words: &["photo", "photograph", "photography", "film still", "cinematic", "movie", "35mm", "street"],
            ..plain
        },
        Preset {
            of: ThreeDRenders,
            networks: RENDER,
            exact: true,
            invent: 0.5,
            words: &["render", "3d", "cgi", "blender", "octane", "architecture", "interior", "product"],
            ..plain
        },
        Preset {
            of: ScienceFictionNHorror,
            crisp: 0.3,
            contrast: 0.35,
            curve: 0.6,
            invent: 1.3,
            dynamic: 1.3,
            words: &[
                "science fiction",
                "sci-fi",
                "scifi",
                "horror",
                "cyberpunk",
                "alien",
                "spaceship",
                "robot",
                "monster",
                "zombie",
                "dystopian",
            ],
            ..plain
        },
    ]
};

impl Preset {
    /// Whether its network is for drawings: it turns photographs into cartoons.
    pub(super) fn is_for_drawings(&self) -> bool {
        self.networks == ART
    }
}

/// A preset's row.
pub(crate) fn preset(of: OptimizedFor) -> &'static Preset {
    PRESETS.iter().find(|p| p.of == of).expect("each has a row")
}

/// An engine: its networks instead of the preset's, and how their results are changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EngineRow {
    /// Which one.
    pub engine: Engine,
    /// Networks for photos; `None` leaves the choice to the preset.
    photo: Option<ByCondition>,
    /// Networks for flat art.
    art: ByCondition,
    /// Gain of the finest detail.
    pub crisp: f32,
    /// Loss of what is weak and fine, 0..=1.
    pub smooth: f32,
    /// Local contrast.
    pub contrast: f32,
    /// Whether the source's grain, which cleaning takes away, is made again.
    pub grain: bool,
}

const SHARPY: ByCondition = ByCondition { clean: DF2K, twice: DF2K, ..CRISP };
const SPARKLE: ByCondition = ByCondition { clean: MIDDLE, twice: MIDDLE, ..CRISP };

const ENGINES: [EngineRow; 4] = {
    let plain = EngineRow {
        engine: Engine::Automatic,
        photo: None,
        art: ART,
        crisp: 0.0,
        smooth: 0.0,
        contrast: 0.0,
        grain: false,
    };
    [
        plain,
        EngineRow { engine: Engine::MagnificIllusio, photo: Some(ByCondition::one(X4PLUS)), smooth: 0.6, ..plain },
        EngineRow {
            engine: Engine::MagnificSharpy,
            photo: Some(SHARPY),
            art: SHARPY,
            crisp: 0.5,
            grain: true,
            ..plain
        },
        EngineRow {
            engine: Engine::MagnificSparkle,
            photo: Some(SPARKLE),
            art: ByCondition::one(X4PLUS),
            contrast: 0.3,
            ..plain
        },
    ]
};

/// An engine's row.
pub(crate) fn engine(of: Engine) -> &'static EngineRow {
    ENGINES.iter().find(|e| e.engine == of).expect("each has a row")
}

/// What a style needs to know about a picture.
pub(crate) fn asked(style: &Style) -> Asked {
    match style {
        Style::Creative(knobs) => {
            let (preset, engine) = (preset(knobs.optimized_for), engine(knobs.engine));
            let pixels = match (knobs.engine, knobs.optimized_for) {
                _ if preset.pixels => PixelArt::Possible,
                (Engine::Automatic, OptimizedFor::Standard) => PixelArt::Evident,
                _ => PixelArt::Unasked,
            };
            let grain = preset.grain || engine.grain;
            Asked { faces: preset.face.is_some(), grain, pixels, ..Asked::default() }
        }
        Style::Precision(knobs) => {
            let pixels = if knobs.flavor.is_none() { PixelArt::Evident } else { PixelArt::Unasked };
            Asked { grain: knobs.smart_grain > 0, pixels, ..Asked::default() }
        }
    }
}

/// Whether a style adds texture.
pub(crate) fn invents(style: &Style) -> bool {
    match style {
        Style::Creative(knobs) => {
            knobs.creativity > 0 || knobs.creativity == 0 && preset(knobs.optimized_for).base > 0.0
        }
        Style::Precision(_) => false,
    }
}

/// What a style enlarges a picture by.
pub(crate) fn networks(style: &Style, content: Content) -> ByCondition {
    match style {
        Style::Creative(Creative { engine: chosen, optimized_for, .. }) => {
            let photo = engine(*chosen).photo.unwrap_or(preset(*optimized_for).networks);
            match content {
                // A preset that names the subject is believed over the measurement.
                Content::Art if *optimized_for == OptimizedFor::Standard => engine(*chosen).art,
                Content::Photo | Content::Art => photo,
            }
        }
        Style::Precision(knobs) => match (knobs.flavor, content) {
            (Some(Flavor::Sublime), _) | (None, Content::Art) => ART,
            (Some(Flavor::Photo), _) => SHARPY,
            (Some(Flavor::PhotoDenoiser), _) => ByCondition::one(X4PLUS),
            (None, Content::Photo) => PHOTO,
        },
    }
}
