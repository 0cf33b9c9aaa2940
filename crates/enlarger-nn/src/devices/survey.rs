//! What GPUs a machine has, how fast each is, and which to use.

use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

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
}

/// A card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Surveyed {
    /// As the driver calls it.
    pub name: String,
    /// PCI address, as `0000:01:00.0`; empty if unknown.
    pub pci: String,
    /// The interface and the driver's name and version.
    pub driver: String,
    /// Bytes of memory; `None` if the driver does not say.
    pub memory: Option<u64>,
    /// Operations per second; 0 if it failed or was not measured.
    pub rate: f64,
    /// Why it is not used even if it is fast, if so.
    pub unfit: Option<String>,
}

impl Survey {
    /// The card to use.
    pub fn best(&self) -> Option<&Surveyed> {
        let fit = self.cards.iter().filter(|card| card.unfit.is_none() && card.rate > WORTH * self.cpu);
        fit.max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// Whether a card is used if the choice is left to the program, and why, in a few words.
    pub fn verdict(&self, card: &Surveyed) -> String {
        let fast = format!("{:.0} GFLOP/s, the CPU {:.0}", card.rate / 1e9, self.cpu / 1e9);
        match (&card.unfit, self.best()) {
            (Some(why), _) => format!("{why}; not used"),
            (None, Some(best)) if best == card => format!("{fast}; used by --gpu auto"),
            (None, Some(_)) => format!("{fast}; another one is faster"),
            (None, None) => format!("{fast}; not used"),
        }
    }
}

impl Surveyed {
    /// What to ask for to get it.
    pub fn to_ask_for(&self) -> String {
        if self.pci.is_empty() { self.name.clone() } else { format!("pci:{}", self.pci) }
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

    fn card(name: &str, rate: f64, unfit: Option<&str>) -> Surveyed {
        let unfit = unfit.map(str::to_owned);
        Surveyed { name: name.into(), pci: String::new(), driver: "Vulkan".into(), memory: Some(4 << 30), rate, unfit }
    }

    #[test]
    fn the_fastest_card_is_used_if_it_is_faster_than_the_cpu() {
        let cards = vec![card("a", 2e12, None), card("b", 5e12, None), card("c", 9e12, Some("it was lost"))];
        let survey = |cpu| Survey { cpu, cards: cards.clone() };
        assert_eq!(survey(1e12).best().map(|card| &*card.name), Some("b"));
        assert_eq!(survey(4.5e12).best(), None, "hardly faster is not worth it");
        let verdicts: Vec<String> = cards.iter().map(|card| survey(1e12).verdict(card)).collect();
        assert!(
            verdicts[0].contains("another one is faster") && verdicts[2] == "it was lost; not used",
            "{verdicts:?}"
        );
        assert_eq!(verdicts[1], "5000 GFLOP/s, the CPU 1000; used by --gpu auto");
        assert_eq!(survey(1e13).verdict(&cards[0]), "2000 GFLOP/s, the CPU 10000; not used");
        assert_eq!(cards[0].to_string(), "a, Vulkan, 4096 MB");
    }
}
