//! Devices one after the other: when one fails, the next goes on with the tile that is being computed.

use std::cell::{OnceCell, RefCell};

use crate::{
    engine::{Asked, Networks, check},
    error::{Error, Result},
    sampler::Prediction,
};

/// Loads networks.
type Load<'a> = Box<dyn Fn() -> Result<Box<dyn Networks + 'a>> + 'a>;

/// A device with networks that are loaded when it is its turn.
struct Rung<'a> {
    /// What it is called in notes.
    title: String,
    load: Load<'a>,
    networks: OnceCell<Box<dyn Networks + 'a>>,
}

/// Networks on devices of which each is for when those before it have failed.
pub struct Ladder<'a> {
    prediction: Prediction,
    rungs: Vec<Rung<'a>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// The device whose turn it is.
    at: usize,
    notes: Vec<String>,
    /// Why the one before it failed.
    why: Option<String>,
}

impl<'a> Ladder<'a> {
    /// Without a device yet, for networks that predict this.
    pub fn new(prediction: Prediction) -> Self {
        Self { prediction, rungs: Vec::new(), state: RefCell::default() }
    }

    /// Adds a device below the others.
    pub fn add(&mut self, title: &str, load: impl Fn() -> Result<Box<dyn Networks + 'a>> + 'a) {
        self.rungs.push(Rung { title: title.to_owned(), load: Box::new(load), networks: OnceCell::new() });
    }

    /// What failed, as sentences.
    pub fn notes(&self) -> Vec<String> {
        self.state.borrow().notes.clone()
    }

    /// Why the last device, of several, had to take over; `None` if it did not.
    pub fn last_resort(&self) -> Option<String> {
        let state = self.state.borrow();
        state.why.clone().filter(|_| state.at + 1 == self.rungs.len())
    }

    /// Asks the device whose turn it is, and the next ones if it fails. Values that are no numbers are a failure, and so is one value
    /// everywhere: that is what cards give whose driver fails without a word.
    fn ask(&self, ask: impl Fn(&dyn Networks) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        loop {
            let at = self.state.borrow().at;
            let rung = self.rungs.get(at).ok_or_else(|| Error::Request("there is no device".into()))?;
            let last = at + 1 == self.rungs.len();
            let why = match self.asked(rung, &ask, last) {
                Err(error @ (Error::Device(_) | Error::NotANumber(_) | Error::Memory { .. })) if !last => match error {
                    Error::NotANumber(_) => "it computed values that are not numbers".to_owned(),
                    other => other.to_string(),
                },
                other => return other,
            };
            let mut state = self.state.borrow_mut();
            state.at += 1;
            let next = &self.rungs[at + 1].title;
            state.notes.push(format!("the {next} computed what the {} should have: {why}", rung.title));
            state.why = Some(why);
        }
    }

    fn asked(&self, rung: &Rung<'a>, ask: impl Fn(&dyn Networks) -> Result<Vec<f32>>, last: bool) -> Result<Vec<f32>> {
        if rung.networks.get().is_none() {
            _ = rung.networks.set((rung.load)()?);
        }
        let networks = rung.networks.get().ok_or(Error::Cancelled)?;
        let values = ask(&**networks)?;
        if !last {
            check(&values, || rung.title.clone())?;
            if values.len() > 1 && values.iter().all(|value| *value == values[0]) {
                return Err(Error::Device("it computed one value everywhere".into()));
            }
        }
        Ok(values)
    }
}

impl Networks for Ladder<'_> {
    fn encode(&self, pixels: &[f32], size: [usize; 2]) -> Result<Vec<f32>> {
        self.ask(|networks| networks.encode(pixels, size))
    }

    fn predict(&self, asked: &Asked<'_>) -> Result<Vec<f32>> {
        self.ask(|networks| networks.predict(asked))
    }

    fn decode(&self, latents: &[f32], size: [usize; 2]) -> Result<Vec<f32>> {
        self.ask(|networks| networks.decode(latents, size))
    }

    fn prediction(&self) -> Prediction {
        self.prediction
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Doubles what it is asked, until it has been asked so often; then it does something else.
    struct Fake {
        good: Cell<usize>,
        then: Fault,
    }

    impl Fake {
        fn answer(&self, values: &[f32]) -> Result<Vec<f32>> {
            let mut values: Vec<f32> = values.iter().map(|v| 2.0 * v).collect();
            if self.good.get() == 0 {
                (self.then)(&mut values)?;
            } else {
                self.good.set(self.good.get() - 1);
            }
            Ok(values)
        }
    }

    impl Networks for Fake {
        fn encode(&self, pixels: &[f32], _: [usize; 2]) -> Result<Vec<f32>> {
            self.answer(pixels)
        }
        fn predict(&self, asked: &Asked<'_>) -> Result<Vec<f32>> {
            self.answer(asked.latents)
        }
        fn decode(&self, latents: &[f32], _: [usize; 2]) -> Result<Vec<f32>> {
            self.answer(latents)
        }
        fn prediction(&self) -> Prediction {
            Prediction::Noise
        }
    }

    /// What happens to a result.
    type Fault = fn(&mut [f32]) -> Result<()>;

    fn fake<'a>(good: usize, then: Fault) -> Result<Box<dyn Networks + 'a>> {
        Ok(Box::new(Fake { good: Cell::new(good), then }))
    }

    #[test]
    fn a_gpu_that_fails_is_followed_by_the_cpu_from_the_tile_on_and_nothing_wrong_is_delivered() {
        let failures: [(Fault, &str); 3] = [
            (|_| Err(Error::Device("it was lost: unplugged".into())), "it was lost: unplugged"),
            (
                |values| {
                    values[1] = f32::NAN;
                    Ok(())
                },
                "values that are not numbers",
            ),
            (
                |values| {
                    values.fill(0.0);
                    Ok(())
                },
                "one value everywhere",
            ),
        ];
        for (then, why) in failures {
            let (loads, mut ladder) = (Cell::new(0), Ladder::new(Prediction::Noise));
            ladder.add("GPU A", move || fake(2, then));
            ladder.add("CPU", || {
                loads.set(loads.get() + 1);
                fake(usize::MAX, |_| Ok(()))
            });
            for tile in 0..4 {
                assert_eq!(ladder.decode(&[1.0, 2.0], [1, 1]), Ok(vec![2.0, 4.0]), "tile {tile}");
                assert_eq!(loads.get(), usize::from(tile >= 2), "the CPU loads when it is needed");
            }
            let [note] = &ladder.notes()[..] else { panic!("{:?}", ladder.notes()) };
            assert!(note.starts_with("the CPU computed what the GPU A should have: ") && note.contains(why), "{note}");
            assert!(ladder.last_resort().is_some_and(|told| told.contains(why)), "{:?}", ladder.last_resort());
        }
    }

    #[test]
    fn what_is_no_fault_of_a_gpu_is_not_tried_again() {
        let mut ladder = Ladder::new(Prediction::Noise);
        ladder.add("GPU A", || fake(0, |_| Err(Error::Cancelled)));
        ladder.add("CPU", || unreachable!("it is not asked"));
        assert_eq!(ladder.encode(&[1.0], [1, 1]), Err(Error::Cancelled));
        assert_eq!(ladder.last_resort(), None);
        // The last device says itself what is wrong.
        let mut ladder = Ladder::new(Prediction::Noise);
        ladder.add("CPU", || fake(0, |_| Err(Error::Device("gone".into()))));
        assert_eq!(ladder.encode(&[1.0], [1, 1]), Err(Error::Device("gone".into())));
        assert!(ladder.notes().is_empty());
    }
}
