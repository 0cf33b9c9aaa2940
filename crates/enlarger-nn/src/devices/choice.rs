//! Which GPU to use.

use std::str::FromStr;

/// Which GPU a user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GpuChoice {
    /// None; no driver is loaded.
    #[default]
    None,
    /// The fastest one, if it is measured to be faster than the CPU, and never a software renderer.
    Auto,
    /// All that are measured to be faster than the CPU, and no software renderers.
    All,
    /// `pci:` and the end of an address, or part of a name; or several of them with commas.
    Named(String),
}

impl FromStr for GpuChoice {
    type Err = String;

    /// `auto`, `all`, `none` or nothing, in any case, or what [`Self::Named`] has.
    ///
    /// # Errors
    /// A sentence if one of these words stands among others.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<String> = text.split(',').map(|word| word.trim().to_lowercase()).collect();
        match (&*words, words.iter().find(|word| ["auto", "all", "none", ""].contains(&&***word))) {
            ([word], _) if word == "auto" => Ok(Self::Auto),
            ([word], _) if word == "all" => Ok(Self::All),
            ([_], Some(_)) => Ok(Self::None),
            (_, Some(word)) => Err(format!("{word:?} cannot be one of several; give names or addresses with commas")),
            (_, None) => Ok(Self::Named(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_in_any_case_and_stand_alone() {
        assert_eq!("AUTO".parse(), Ok(GpuChoice::Auto));
        assert_eq!(" All ".parse(), Ok(GpuChoice::All));
        for none in ["none", "None", "", " "] {
            assert_eq!(none.parse(), Ok(GpuChoice::None), "{none:?}");
        }
        for named in ["rtx", "rtx, pci:01:00.0", "automatic"] {
            assert_eq!(named.parse(), Ok(GpuChoice::Named(named.into())));
        }
        for mixed in ["auto,rtx", "rtx,none", "rtx,"] {
            assert!(mixed.parse::<GpuChoice>().is_err_and(|why| why.contains("cannot be one of several")), "{mixed}");
        }
    }
}
