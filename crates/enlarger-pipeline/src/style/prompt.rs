//! What a prompt says about the picture. Without a generative engine it can only choose a preset.

use crate::{request::OptimizedFor, statistics::Content};

use super::presets::PRESETS;

/// Words that call the picture a photograph, whatever it shows: a photo of a painting is one.
const PHOTOGRAPH: &[&str] =
    &["photo", "photograph", "photography", "photorealistic", "35mm", "dslr", "cinematic", "film still"];
/// Words after which the rest of a phrase names what is not in the picture.
const NEGATIONS: &[&str] = &["no", "not", "without", "non", "never"];

/// The preset that most words of a prompt speak for, and the first of these words. Of equals the earlier row wins.
///
/// A prompt never speaks against the measurement: presets for drawings are chosen for pictures that look drawn and that
/// the prompt does not call photographs, the others for the rest. A wrong word would turn a portrait into a cartoon.
pub(crate) fn preset_of(prompt: &str, content: Content) -> Option<(OptimizedFor, &'static str)> {
    let phrases = phrases(prompt);
    let says = |word: &str| phrases.iter().any(|phrase| phrase.contains(&format!(" {word} ")));
    let drawn = content == Content::Art;
    if drawn && PHOTOGRAPH.iter().any(|word| says(word)) {
        return None;
    }
    let mut best: Option<(usize, OptimizedFor, &'static str)> = None;
    for preset in PRESETS.iter().filter(|preset| preset.is_for_drawings() == drawn) {
        let found: Vec<&'static str> = preset.words.iter().copied().filter(|word| says(word)).collect();
        if let Some(&first) = found.first()
            && best.is_none_or(|(most, ..)| found.len() > most)
        {
            best = Some((found.len(), preset.of, first));
        }
    }
    best.map(|(_, of, word)| (of, word))
}

/// What a prompt names, phrase by phrase: in lower case, each word between two spaces, so that "art" is not found in
/// "party". Commas and full stops part phrases. Weights as in `(green eyes:1.3)` and tags as in `<lora:film:0.8>` are left out, and
/// so is what follows a negation.
fn phrases(prompt: &str) -> Vec<String> {
    let untagged: String = prompt
        .split('<')
        .enumerate()
        .map(|(i, part)| if i == 0 { part } else { part.split_once('>').map_or(part, |(_, rest)| rest) })
        .collect();
    let is_end = |c: char| matches!(c, ',' | ';' | '.' | '!' | '?' | '\n' | '|');
    let words = |phrase: &str| {
        let spaced: String = phrase
            .chars()
            .map(|c| if c.is_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { ' ' })
            .collect();
        let named = spaced.split_whitespace().take_while(|word| !NEGATIONS.contains(word));
        format!(" {} ", named.collect::<Vec<_>>().join(" "))
    };
    untagged.split(is_end).map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_never_makes_a_drawing_of_a_photograph() {
        for prompt in [
            "highly detailed skin texture, natural light",
            "white tiger, detailed fur texture",
            "stone texture wall",
            "detailed texture, 8k",
            "game of thrones actress, cinematic",
            "a photo of a painting in an art museum",
            "anime girl",
            "pixel art sprite icon",
        ] {
            let preset = preset_of(prompt, Content::Photo).map(|(preset, _)| preset);
            let drawn = [OptimizedFor::ArtNIllustration, OptimizedFor::VideogameAssets];
            assert!(!preset.is_some_and(|p| drawn.contains(&p)), "{prompt}: {preset:?}");
        }
    }

    #[test]
    fn words_that_name_no_subject_choose_nothing() {
        for content in [Content::Photo, Content::Art] {
            for word in ["texture", "game", "art", "icon", "blue", "8k, masterpiece, best quality", ""] {
                assert_eq!(preset_of(word, content), None, "{word}");
            }
        }
    }

    #[test]
    fn what_is_negated_is_not_there() {
        let photo = |prompt| preset_of(prompt, Content::Photo).map(|(preset, _)| preset);
        assert_eq!(photo("no people, empty street"), Some(OptimizedFor::FilmsNPhotography));
        assert_eq!(photo("without any trees"), None);
        assert_eq!(photo("forest, not a portrait"), Some(OptimizedFor::NatureNLandscapes));
    }

    #[test]
    fn weights_and_tags_are_no_words() {
        let photo = |prompt| preset_of(prompt, Content::Photo);
        assert_eq!(photo("(weathered:1.3) [beard]"), Some((OptimizedFor::HardPortraits, "beard")));
        assert_eq!(photo("<lora:portrait:0.8> a mountain"), Some((OptimizedFor::NatureNLandscapes, "mountain")));
    }

    #[test]
    fn drawings_get_presets_for_drawings_unless_the_prompt_calls_them_photographs() {
        let art = |prompt| preset_of(prompt, Content::Art).map(|(preset, _)| preset);
        assert_eq!(art("anime girl"), Some(OptimizedFor::ArtNIllustration));
        assert_eq!(art("pixel art hero"), Some(OptimizedFor::VideogameAssets));
        assert_eq!(art("photo of a manga page"), None);
        assert_eq!(art("portrait of a woman"), None);
    }
}
