//! The knobs that are whole numbers, declared one row each. Everything that lists knobs reads their rows: what HTTP
//! accepts and refuses, the specification, flags, the page's sliders and the table in `docs/reference/knobs.md`. What a
//! knob does is defined in one place, `style/recipe.rs`.

use std::ops::RangeInclusive;

/// A knob of a family `F`: [`Creative`](crate::Creative) or [`Precision`](crate::Precision).
#[derive(Debug)]
pub struct Knob<F> {
    /// Its name on the wire and in JSON. As a flag it has dashes.
    pub name: &'static str,
    /// Its values.
    pub range: RangeInclusive<i64>,
    /// Its default value.
    pub default: i64,
    /// Its title for users.
    pub title: &'static str,
    /// What it does, in a sentence.
    pub help: &'static str,
    /// Reads it.
    pub get: fn(&F) -> i64,
    /// Sets it. The value lies in the range.
    pub set: fn(&mut F, i64),
}

/// Settings of which the knobs are a part.
pub trait Knobs: Default + Sized + 'static {
    /// Its knobs, in the order in which they are offered.
    const KNOBS: &'static [Knob<Self>];
}

/// Declares a family of settings: a struct with its knobs as fields, each of which is a row of [`Knobs::KNOBS`], and further fields that
/// are not numbers.
macro_rules! knobs {
    (
        $(#[$about:meta])*
        $family:ident: $number:ident in [$range:expr] {
            $($name:ident = $default:literal, $title:literal, $help:literal;)+
        }
        $($(#[$extra:meta])* $field:ident: $kind:ty;)*
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $family {
            $(#[doc = $help] pub $name: $number,)+
            $($(#[$extra])* pub $field: $kind,)*
        }

        impl $crate::knobs::Knobs for $family {
            const KNOBS: &'static [$crate::knobs::Knob<Self>] = &[$($crate::knobs::Knob {
                name: stringify!($name),
                range: $range,
                default: $default,
                title: $title,
                help: $help,
                get: |family| family.$name.into(),
                set: |family, value| family.$name = value as $number,
            }),+];
        }

        impl Default for $family {
            fn default() -> Self {
                Self { $($name: $default,)+ $($field: Default::default(),)* }
            }
        }
    };
}
pub(crate) use knobs;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    knobs! {
        /// A family with one knob, of one row.
        Toy: i8 in [-3..=3] {
            warmth = 1, "Warmth", "Warmer colours.";
        }
    }

    #[test]
    fn a_knob_is_added_by_a_row() {
        let mut toy = Toy::default();
        let [Knob { name, range, default, title, help, get, set }] = Toy::KNOBS else { panic!("one row, one knob") };
        assert_eq!((*name, range.clone(), *default, *title, *help), ("warmth", -3..=3, 1, "Warmth", "Warmer colours."));
        assert_eq!(get(&toy), 1);
        set(&mut toy, -2);
        assert_eq!(toy, Toy { warmth: -2 });
        assert_eq!(serde_json::from_str::<Toy>("{}").expect("defaults"), Toy::default());
    }

    #[test]
    fn every_knob_reads_what_was_set_and_its_default_lies_in_its_range() {
        fn check<F: Knobs>() {
            for knob in F::KNOBS {
                assert!(knob.range.contains(&knob.default), "{}", knob.name);
                assert_eq!((knob.get)(&F::default()), knob.default, "{}", knob.name);
                for value in knob.range.clone() {
                    let mut family = F::default();
                    (knob.set)(&mut family, value);
                    assert_eq!((knob.get)(&family), value, "{}", knob.name);
                    let mut others = F::KNOBS.iter().filter(|other| other.name != knob.name);
                    assert!(others.all(|other| (other.get)(&family) == other.default), "{}", knob.name);
                }
            }
        }
        check::<crate::Creative>();
        check::<crate::Precision>();
    }
}
