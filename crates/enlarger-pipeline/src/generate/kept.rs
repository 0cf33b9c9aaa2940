//! The model that ran last stays in memory for the next job: until another needs the room, or nobody has asked for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

/// How long a model stays that no job uses.
const IDLE: Duration = Duration::from_secs(300);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(30);

/// SHA-256 of each file of a model, and strengths.
pub(super) type Key = Vec<(String, u32)>;

/// Keeps one model.
pub(super) struct Kept<M>(Arc<Mutex<Shelf<M>>>);

struct Shelf<M> {
    last: Option<Last<M>>,
    /// Whether a thread frees the model once it is idle.
    watched: bool,
}

struct Last<M> {
    key: Key,
    model: Arc<M>,
    bytes: u64,
    used: Instant,
}

impl<M> Last<M> {
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.model) > 1
    }
}

impl<M> Default for Kept<M> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Shelf { last: None, watched: false })))
    }
}

impl<M: Send + Sync + 'static> Kept<M> {
    /// The model of a key, loaded unless it was the last one. Of another one, what nobody uses is freed before.
    pub fn get<E>(&self, key: Key, bytes: u64, load: impl FnOnce() -> Result<M, E>) -> Result<Arc<M>, E> {
        // Held while loading, so that two jobs never load the same weights at once.
        let mut shelf = lock(&self.0);
        if let Some(last) = shelf.last.as_mut().filter(|last| last.key == key) {
            last.used = Instant::now();
            return Ok(last.model.clone());
        }
        shelf.last = None;
        let model = Arc::new(load()?);
        shelf.last = Some(Last { key, model: model.clone(), bytes, used: Instant::now() });
        if !std::mem::replace(&mut shelf.watched, true) {
            watch(Arc::downgrade(&self.0));
        }
        Ok(model)
    }

    /// Whether the model of a key is in memory.
    pub fn has(&self, key: &Key) -> bool {
        lock(&self.0).last.as_ref().is_some_and(|last| last.key == *key)
    }

    /// Bytes that a job with this key need not find: those of its own model, or of another that is freed first.
    pub fn spares(&self, key: &Key) -> u64 {
        let shelf = lock(&self.0);
        shelf.last.as_ref().filter(|last| last.key == *key || !last.is_in_use()).map_or(0, |last| last.bytes)
    }

    /// Frees the model unless a job uses it; gives its bytes.
    pub fn give_back(&self) -> u64 {
        lock(&self.0).last.take_if(|last| !last.is_in_use()).map_or(0, |last| last.bytes)
    }
}

impl<M> Shelf<M> {
    /// Frees a model that was not used for long; whether there is none then.
    fn free_if_idle(&mut self, now: Instant) -> bool {
        if let Some(last) = self.last.as_mut().filter(|last| last.is_in_use()) {
            last.used = now;
        }
        if self.last.take_if(|last| now.duration_since(last.used) >= IDLE).is_some() {
            tracing::info!("the model of the generative engine was not used for a while, and is freed");
        }
        self.last.is_none()
    }
}

/// Looks after a shelf until it is empty or gone.
fn watch<M: Send + Sync + 'static>(shelf: Weak<Mutex<Shelf<M>>>) {
    let looks = move || {
        loop {
            std::thread::sleep(LOOK);
            let Some(shelf) = shelf.upgrade() else { return };
            let mut shelf = lock(&shelf);
            if shelf.free_if_idle(Instant::now()) {
                shelf.watched = false;
                return;
            }
        }
    };
    // Without a thread the model stays.
    let _ = std::thread::Builder::new().name("idle model".into()).spawn(looks);
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        vec![(name.to_owned(), 0)]
    }

    fn loaded(kept: &Kept<u8>, name: &str, model: u8) -> Arc<u8> {
        kept.get(key(name), 100, || Ok::<_, ()>(model)).unwrap()
    }

    #[test]
    fn the_last_model_stays_for_the_next_job_and_goes_for_another() {
        let kept = Kept::default();
        let a = loaded(&kept, "a", 1);
        assert_eq!(*loaded(&kept, "a", 2), 1, "it is not loaded again");
        assert_eq!(
            (kept.spares(&key("a")), kept.spares(&key("b"))),
            (100, 0),
            "a job uses a, so b needs room of its own"
        );
        drop(a);
        assert_eq!(kept.spares(&key("b")), 100);
        assert_eq!(*loaded(&kept, "b", 3), 3);
        assert!(kept.has(&key("b")) && !kept.has(&key("a")));
    }

    #[test]
    fn a_model_that_no_job_uses_is_freed_for_others_and_after_a_while() {
        let kept = Kept::default();
        let a = loaded(&kept, "a", 1);
        assert_eq!(kept.give_back(), 0, "a job uses it");
        let later = Instant::now() + IDLE;
        assert!(!lock(&kept.0).free_if_idle(later));
        drop(a);
        assert!(!lock(&kept.0).free_if_idle(later + IDLE / 2), "the job ended less than a while ago");
        assert!(lock(&kept.0).free_if_idle(later + IDLE));
        assert_eq!(kept.give_back(), 0);
        loaded(&kept, "a", 1);
        assert_eq!((kept.give_back(), kept.give_back()), (100, 0));
    }
}
