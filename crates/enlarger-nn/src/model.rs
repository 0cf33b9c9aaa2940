//! A network on a device, and the strips of an image that it runs on.

use std::{
    cell::RefCell,
    ops::{ControlFlow, Range},
};

use crate::error::NnError;

/// A network on a device, with its weights where the device wants them.
pub trait Model: Send + Sync {
    /// The widest strip, in pixels of the image with its halo, that fits the memory a run may take.
    fn widest(&self) -> u32;

    /// Runs down a strip. Rows are emitted from top to bottom, each once, `scale` of them or a multiple at a time.
    ///
    /// # Errors
    /// [`NnError::Cancelled`] if `report` says so, [`NnError::Memory`] if there is not enough for feature maps.
    fn run(&self, strip: &Strip<'_>, report: &Report<'_>, emit: &mut Emit<'_>) -> Result<(), NnError>;
}

/// A part of an image that is as high as the image. Its sides are multiples of the network's alignment.
pub struct Strip<'a> {
    /// Pixels across, halo included.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Rows of a band; `None` lets the network choose.
    pub band: Option<usize>,
    /// Fills a slice with rows of interleaved RGB in 0..=1, `[rows][width][3]`.
    pub read: &'a (dyn Fn(Range<usize>, &mut [f32]) + Sync),
}

/// Takes finished rows of a strip's result: the number of the first, and `[rows][width * scale][3]`.
pub type Emit<'a> = dyn FnMut(usize, &[f32]) + 'a;

/// Where a run reports how far it is, many times per band, and what people should know of it.
pub struct Report<'a> {
    to: &'a (dyn Fn(f64) -> ControlFlow<()> + 'a),
    notes: RefCell<Vec<String>>,
}

impl<'a> Report<'a> {
    /// Calls a function, which ends the run by [`ControlFlow::Break`].
    pub fn new(to: &'a (dyn Fn(f64) -> ControlFlow<()> + 'a)) -> Self {
        Self { to, notes: RefCell::default() }
    }

    /// Reports the share of the strip that is done, 0.0 to 1.0.
    ///
    /// # Errors
    /// [`NnError::Cancelled`] if the run is to end.
    pub fn done(&self, share: f64) -> Result<(), NnError> {
        if (self.to)(share).is_break() { Err(NnError::Cancelled) } else { Ok(()) }
    }

    /// Takes a sentence for the user, such as that a device failed and another one went on.
    pub fn note(&self, sentence: String) {
        self.notes.borrow_mut().push(sentence);
    }

    /// The sentences.
    pub fn into_notes(self) -> Vec<String> {
        self.notes.into_inner()
    }
}
