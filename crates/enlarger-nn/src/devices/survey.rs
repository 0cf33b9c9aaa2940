//! What GPUs a machine has, how fast each is, and which to use.

use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

use super::choice::GpuChoice;
use crate::error::NnError;

/// How much faster than the CPU a card has to be measured to be chosen.
const WORTH: f64 = 1.2;

/// The cards of this machine beside its CPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// Operations per second of the CPU with all its cores, convolutions being computed directly; 0 if there was nothing to
    /// compare it with.
    pub cpu: f64,
    /// Its cards, the likely fastest kind first.
    pub cards: Vec<Surveyed>,
    /// Sentences about what keeps drivers from offering the cards that there seem to be.
    pub lacks: Vec<String>,
}

/// A card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Surveyed {
    /// As the driver calls it, with a number if there are several that nothing else tells apart.
    pub name: String,
    /// PCI address, as `0000:01:00.0`; empty if unknown.
    pub pci: String,
    /// The interface and the driver's name and version.
    pub driver: String,
    /// Bytes of memory; `None` if the driver does not say.
    pub memory: Option<u64>,
    /// Operations per second; 0 if it failed or was not measured.
    pub rate: f64,
    /// Whether that was measured with its units for matrices, which were faster than its threads.
    #[serde(default)]
    pub matrix: bool,
    /// Why it is not used even if it is fast, if so.
    pub unfit: Option<String>,
}

impl Survey {
    /// The cards that are worth using, the fastest first.
    fn fit(&self) -> Vec<&Surveyed> {
        let fit = self.cards.iter().filter(|card| card.unfit.is_none() && card.rate > WORTH * self.cpu);
        let mut fit: Vec<&Surveyed> = fit.collect();
        fit.sort_by(|a, b| b.rate.total_cmp(&a.rate));
        fit
    }

    /// The cards that are asked for, the fastest first where they were measured. None is the CPU.
    ///
    /// # Errors
    /// [`NnError::NoGpu`] if a name is none's, [`NnError::ManyGpus`] if it is part of several names.
    pub fn choose(&self, choice: &GpuChoice) -> Result<Vec<&Surveyed>, NnError> {
        Ok(match choice {
            GpuChoice::None => Vec::new(),
            GpuChoice::Auto => self.fit().into_iter().take(1).collect(),
            GpuChoice::All => self.fit(),
            GpuChoice::Named(names) => {
                let mut named: Vec<&Surveyed> = Vec::new();
                for name in names.split(',') {
                    let card = self.named(name.trim())?;
                    if !named.contains(&card) {
                        named.push(card);
                    }
                }
                named
            }
        })
    }

    fn named(&self, text: &str) -> Result<&Surveyed, NnError> {
        let asked = || text.to_owned();
        let listed = |cards: &[&Surveyed]| cards.iter().map(|card| card.place()).collect::<Vec<_>>();
        let called: Vec<&Surveyed> = self.cards.iter().filter(|card| card.is_called(text)).collect();
        // Of a "4070" and a "4070 Ti", the first has the whole name.
        let exact: Vec<&Surveyed> =
            called.iter().copied().filter(|card| card.name.eq_ignore_ascii_case(text)).collect();
        match (&*called, &*exact) {
            ([card], _) | (_, [card]) => Ok(*card),
            ([], _) => {
                let there = listed(&self.cards.iter().collect::<Vec<_>>());
                Err(NnError::NoGpu { asked: asked(), there, lacks: self.lacks.clone() })
            }
            (several, _) => Err(NnError::ManyGpus { asked: asked(), there: listed(several) }),
        }
    }

    /// Whether a card is used if the choice is left to the program, and why, in a few words.
    pub fn verdict(&self, card: &Surveyed) -> String {
        let units = if card.matrix { " by its matrix units" } else { "" };
        let fast = format!("{:.0} GFLOP/s{units}, the CPU {:.0}", card.rate / 1e9, self.cpu / 1e9);
        let fit = self.fit();
        match &card.unfit {
            Some(why) => format!("{why}; not used"),
            None if fit.first() == Some(&card) => format!("{fast}; used by --gpu auto"),
            None if fit.contains(&card) => format!("{fast}; another one is faster, used by --gpu all"),
            None => format!("{fast}; not used, since it is not at least {WORTH} times as fast"),
        }
    }

    /// Why no card is worth using, in a sentence without a full stop.
    pub fn why_none(&self) -> String {
        if self.cards.is_empty() {
            let lacks = self.lacks.first().map_or(String::new(), |what| format!("; {what}"));
            return format!("no driver offers a GPU{lacks}");
        }
        let cards = self.cards.iter().map(|card| format!("{}: {}", card.name, self.verdict(card)));
        cards.collect::<Vec<_>>().join("; ")
    }

    /// Whether it is about the same cards with the same drivers.
    pub fn is_of(&self, cards: &[Surveyed]) -> bool {
        self.cards.len() == cards.len() && self.cards.iter().zip(cards).all(|(a, b)| a.is(b))
    }
}

impl Surveyed {
    /// Whether it is the same card, with the same driver.
    pub fn is(&self, other: &Self) -> bool {
        (&self.name, &self.pci, &self.driver) == (&other.name, &other.pci, &other.driver)
    }

    /// Whether `text` is part of its name, or `pci:` and the end of its address.
    pub fn is_called(&self, text: &str) -> bool {
        match text.strip_prefix("pci:") {
            Some(address) => !address.is_empty() && self.pci.to_lowercase().ends_with(&address.to_lowercase()),
            None => !text.is_empty() && self.name.to_lowercase().contains(&text.to_lowercase()),
        }
    }

    /// Its name and where it is, by both of which it may be asked for.
    fn place(&self) -> String {
        if self.pci.is_empty() { self.name.clone() } else { format!("{} (pci:{})", self.name, self.pci) }
    }
}

/// Its name, where it is, its driver and its memory.
impl Display for Surveyed {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if !self.pci.is_empty() {
            write!(f, ", pci:{}", self.pci)?;
        }
        write!(f, ", {}", self.driver)?;
        self.memory.map_or(Ok(()), |memory| write!(f, ", {} MB", memory >> 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, pci: &str, rate: f64, unfit: Option<&str>) -> Surveyed {
        let (unfit, driver) = (unfit.map(str::to_owned), "Vulkan".into());
        Surveyed { name: name.into(), pci: pci.into(), driver, memory: Some(4 << 30), rate, matrix: false, unfit }
    }

    fn chosen(survey: &Survey, choice: GpuChoice) -> Vec<&str> {
        survey.choose(&choice).expect("names that are there").iter().map(|card| &*card.name).collect()
    }

    #[test]
    fn the_fastest_cards_are_used_if_they_are_faster_than_the_cpu() {
        let cards =
            vec![card("a", "", 2e12, None), card("b", "", 5e12, None), card("c", "", 9e12, Some("it was lost"))];
        let survey = |cpu| Survey { cpu, cards: cards.clone(), ..Survey::default() };
        assert_eq!(chosen(&survey(1e12), GpuChoice::Auto), ["b"]);
        assert_eq!(chosen(&survey(1e12), GpuChoice::All), ["b", "a"]);
        assert_eq!(chosen(&survey(1e12), GpuChoice::None), [""; 0]);
        for choice in [GpuChoice::Auto, GpuChoice::All] {
            assert_eq!(chosen(&survey(4.5e12), choice), [""; 0], "hardly faster is not worth it");
        }
        let verdicts: Vec<String> = cards.iter().map(|card| survey(1e12).verdict(card)).collect();
        assert!(
            verdicts[0].contains("another one is faster") && verdicts[2] == "it was lost; not used",
            "{verdicts:?}"
        );
        assert_eq!(verdicts[1], "5000 GFLOP/s, the CPU 1000; used by --gpu auto");
        assert!(survey(1e13).verdict(&cards[0]).starts_with("2000 GFLOP/s, the CPU 10000; not used"));
        assert_eq!(cards[0].to_string(), "a, Vulkan, 4096 MB");
        let why = survey(4.5e12).why_none();
        assert!(why.starts_with("a: 2000 GFLOP/s, ") && why.ends_with("; c: it was lost; not used"), "{why}");
        let nothing = Survey { lacks: vec!["no loader".into()], ..Survey::default() };
        assert_eq!(nothing.why_none(), "no driver offers a GPU; no loader");
    }

    #[test]
    fn a_gpu_is_named_by_text_or_address() {
        let cards = ["0000:01:00.0", "0000:21:00.0"].map(|pci| card("NVIDIA GeForce RTX 4070", pci, 0.0, None));
        let [first, second] = cards.clone();
        let other = card("NVIDIA GeForce RTX 4070 Ti", "0000:41:00.0", 0.0, None);
        let survey =
            |cards: &[&Surveyed]| Survey { cards: cards.iter().copied().cloned().collect(), ..Survey::default() };
        let address = |survey: &Survey, name: &str| {
            let named = survey.choose(&GpuChoice::Named(name.into()));
            named.map(|cards| cards.iter().map(|card| card.pci.clone()).collect::<Vec<_>>())
        };
        let one = survey(&[&first, &other]);
        for name in ["NVIDIA GeForce RTX 4070", "nvidia geforce rtx 4070", "pci:01:00.0", "pci:0000:01:00.0"] {
            assert_eq!(address(&one, name), Ok(vec![first.pci.clone()]), "{name}");
        }
        assert_eq!(address(&one, " ti , pci:01:00.0"), Ok(vec![other.pci.clone(), first.pci.clone()]));
        for unknown in ["radeon", "01:00.0", "pci:02:00.0", "pci:"] {
            let error = address(&one, unknown).expect_err(unknown).to_string();
            assert!(error.contains("there are: NVIDIA GeForce RTX 4070 (pci:0000:01:00.0); NVIDIA"), "{error}");
        }
        // Two of one name are told apart by their addresses.
        let error =
            address(&survey(&[&first, &second, &other]), "NVIDIA GeForce RTX 4070").expect_err("two").to_string();
        let both = "NVIDIA GeForce RTX 4070 (pci:0000:01:00.0); NVIDIA GeForce RTX 4070 (pci:0000:21:00.0)";
        assert!(error.contains(both), "{error}");
        assert_eq!(address(&survey(&[&first, &second]), "pci:21:00.0"), Ok(vec![second.pci.clone()]));
    }
}
