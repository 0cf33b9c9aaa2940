//! What `optimized_for` and `engine` mean, as data.

use crate::request::{Engine, Flavor, OptimizedFor};

/// Networks for a kind of picture, and how much of each treatment it bears.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Preset {
    /// What it is for.
    pub of: OptimizedFor,
    /// Network for pictures without visible damage: `MODEL`, `MODEL+OTHER@SHARE` or `FIRST/MODEL`.
    pub clean: &'static str,
    /// Network for pictures with noise or compression blocks.
    pub damaged: &'static str,
    /// The same when something is to be invented: it must not grow out of the noise and the blocks.
    pub restored: &'static str,
    /// Gain of the finest detail, whatever the knobs say.
    pub crisp: f32,
    /// Local contrast, whatever the knobs say.
    pub contrast: f32,
    /// Factor on what creativity and fractality invent.
    pub invent: f32,
    /// Factor on what hdr does.
    pub dynamic: f32,
    /// Words of a prompt that choose it.
    pub words: &'static [&'static str],
}

const DF2K: &str = "realsr-df2k";
const X4PLUS: &str = "x4plus";
/// The photo networks with three tenths of the small network: what only one of the two invents is weaker, what both see
/// stays. Closer to the truth than any one network on every kind of input (docs/quality.md), for a thirtieth more time.
const CLEAN: &str = "realsr-df2k+animevideo-v3@0.3";
const DAMAGED: &str = "x4plus+animevideo-v3@0.3";
const ANIME: &str = "x4plus-anime-6b";
/// Half-way between the photo networks: natural texture, with half the artefacts of each.
const MIDDLE: &str = "realsr-df2k+x4plus@0.5";
/// Like it, with more of the grain.
const GRAINY: &str = "realsr-df2k+x4plus@0.35";
/// Cleaned by one network, enlarged by the other: crisper than the first alone, and the second has no damage to draw.
const RESTORED: &str = "x4plus/realsr-df2k";

/// Whether a network makes texture of noise. The others take noise away.
pub(super) fn makes_texture(network: &str) -> bool {
    network == DF2K
}

/// Skin bears little invention and less contrast: pores become warts. Foliage and rock bear most.
#[rustfmt::skip]
const PRESETS: [Preset; 9] = {
    use OptimizedFor::*;
    [
        Preset { of: Standard,              clean: CLEAN,  damaged: DAMAGED,  restored: RESTORED, crisp: 0.0,  contrast: 0.0,  invent: 1.0, dynamic: 1.0, words: &[] },
        Preset { of: SoftPortraits,         clean: MIDDLE, damaged: DAMAGED,  restored: RESTORED, crisp: -0.2, contrast: -0.1, invent: 0.4, dynamic: 0.5, words: &["portrait", "face", "woman", "man", "girl", "boy", "baby", "child", "bride", "selfie", "person", "people"] },
        Preset { of: HardPortraits,         clean: CLEAN,  damaged: DAMAGED,  restored: RESTORED, crisp: 0.3,  contrast: 0.2,  invent: 0.7, dynamic: 0.9, words: &["wrinkles", "beard", "weathered", "rugged", "warrior", "old man", "old woman"] },
        Preset { of: ArtNIllustration,      clean: ANIME,  damaged: ANIME,    restored: ANIME,    crisp: 0.0,  contrast: 0.0,  invent: 0.7, dynamic: 0.8, words: &["illustration", "drawing", "painting", "anime", "manga", "cartoon", "comic", "watercolor", "sketch", "art"] },
        Preset { of: VideogameAssets,       clean: ANIME,  damaged: ANIME,    restored: ANIME,    crisp: 0.3,  contrast: 0.1,  invent: 0.6, dynamic: 0.8, words: &["videogame", "game", "sprite", "pixel art", "texture", "asset", "icon"] },
        Preset { of: NatureNLandscapes,     clean: CLEAN,  damaged: RESTORED, restored: RESTORED, crisp: 0.2,  contrast: 0.15, invent: 1.3, dynamic: 1.1, words: &["landscape", "forest", "mountain", "mountains", "tree", "trees", "flower", "flowers", "sea", "beach", "river", "lake", "nature", "garden", "sky", "animal", "bird"] },
        Preset { of: FilmsNPhotography,     clean: CLEAN,  damaged: GRAINY,   restored: RESTORED, crisp: 0.1,  contrast: 0.1,  invent: 0.8, dynamic: 0.9, words: &["photo", "photograph", "photography", "film", "cinematic", "movie", "35mm", "street"] },
        Preset { of: ThreeDRenders,         clean: CLEAN,  damaged: DAMAGED,  restored: RESTORED, crisp: 0.3,  contrast: 0.1,  invent: 0.5, dynamic: 1.0, words: &["render", "3d", "cgi", "blender", "octane", "architecture", "interior", "product"] },
        Preset { of: ScienceFictionNHorror, clean: CLEAN,  damaged: DAMAGED,  restored: RESTORED, crisp: 0.3,  contrast: 0.35, invent: 1.3, dynamic: 1.3, words: &["science fiction", "sci-fi", "scifi", "horror", "cyberpunk", "alien", "spaceship", "robot", "monster", "zombie", "dystopian"] },
    ]
};

/// A preset's row.
pub(crate) fn preset(of: OptimizedFor) -> &'static Preset {
    PRESETS.iter().find(|p| p.of == of).expect("each has a row")
}

/// The preset that most words of a prompt speak for, and the first of these words. Of equals the earlier row wins.
pub(crate) fn of_prompt(prompt: &str) -> Option<(OptimizedFor, &'static str)> {
    let letters: String =
        prompt.chars().map(|c| if c.is_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { ' ' }).collect();
    // Padded, so that "art" is not found in "party".
    let text = format!(" {} ", letters.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut best: Option<(usize, OptimizedFor, &'static str)> = None;
    for preset in &PRESETS {
        let found: Vec<&'static str> =
            preset.words.iter().copied().filter(|w| text.contains(&format!(" {w} "))).collect();
        if let Some(&first) = found.first()
            && best.is_none_or(|(most, ..)| found.len() > most)
        {
            best = Some((found.len(), preset.of, first));
        }
    }
    best.map(|(_, of, word)| (of, word))
}

/// What an engine does to a picture: its networks instead of the preset's, and a gain of the finest detail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EngineRow {
    /// Which one.
    pub engine: Engine,
    /// Networks for clean and for damaged photos; `None` leaves the choice to the preset.
    pub photo: Option<(&'static str, &'static str)>,
    /// Network for flat art.
    pub art: &'static str,
    /// Gain of the finest detail.
    pub crisp: f32,
}

#[rustfmt::skip]
const ENGINES: [EngineRow; 4] = [
    EngineRow { engine: Engine::Automatic,       photo: None,                     art: ANIME,  crisp: 0.0 },
    EngineRow { engine: Engine::MagnificIllusio, photo: Some((X4PLUS, X4PLUS)),   art: ANIME,  crisp: -0.3 },
    EngineRow { engine: Engine::MagnificSharpy,  photo: Some((DF2K, DF2K)),       art: DF2K,   crisp: 0.5 },
    EngineRow { engine: Engine::MagnificSparkle, photo: Some((MIDDLE, RESTORED)), art: X4PLUS, crisp: 0.0 },
];

/// An engine's row.
pub(crate) fn engine(of: Engine) -> &'static EngineRow {
    ENGINES.iter().find(|e| e.engine == of).expect("each has a row")
}

/// The network of a precision flavour.
pub(crate) fn flavor(of: Flavor) -> &'static str {
    match of {
        Flavor::Sublime => ANIME,
        Flavor::Photo => DF2K,
        Flavor::PhotoDenoiser => X4PLUS,
    }
}
