//! What a ComfyUI has for a workflow: asked in the background, remembered, and waited for no longer than it is worth.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use enlarger_comfyui::{ComfyUi, Error, Offer, Unanswered, Workflow};

use super::{Patience, kept::lock};

/// How long what ComfyUI offers is believed, so that a person who moves sliders does not ask it each time.
const BELIEVED: Duration = Duration::from_secs(10);
/// How long a client that submits something waits for an answer; one that works needs a fraction of it.
const SHORT: Duration = Duration::from_millis(500);
/// How often those who wait are asked whether they still do.
const BEAT: Duration = Duration::from_millis(100);

/// What a ComfyUI offers for one workflow.
pub(super) struct Offers(Arc<Asked>);

struct Asked {
    comfyui: ComfyUi,
    /// For the log.
    address: String,
    workflow: Workflow,
    known: Mutex<Known>,
    /// A question has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Known {
    /// The last answer, and when it came.
    offer: Option<(Instant, Offer)>,
    /// Why the last question got none.
    failure: Option<Error>,
    /// When the question was asked that is still open.
    open: Option<Instant>,
    /// Questions that have ended.
    ended: u64,
}

impl Offers {
    pub fn new(comfyui: ComfyUi, address: String, workflow: Workflow) -> Self {
        Self(Arc::new(Asked { comfyui, address, workflow, known: Mutex::default(), ended: Condvar::new() }))
    }

    pub fn workflow(&self) -> &Workflow {
        &self.0.workflow
    }

    /// What is offered: as it was a moment ago, or as ComfyUI says now. Whose patience is short gets what it said before, if it says
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::Unreachable`] if there is no answer yet, old or new; what asking raises.
    pub fn get(&self, patience: Patience, cancelled: &dyn Fn() -> bool) -> Result<Offer, Error> {
        let asked = &self.0;
        let mut known = lock(&asked.known);
        if let Some((when, offer)) = &known.offer
            && when.elapsed() < BELIEVED
        {
            return Ok(offer.clone());
        }
        // Who said nothing the last time is not waited for again.
        let silent = matches!(known.failure, Some(Error::Unreachable(Unanswered::Timeout(_))));
        let since = match known.open {
            Some(since) => since,
            None => asked.ask(&mut known)?,
        };
        let before = known.ended;
        loop {
            if known.ended != before {
                return match (&known.failure, &known.offer) {
                    (None, Some((_, offer))) => Ok(offer.clone()),
                    (failure, _) => Err(failure.clone().unwrap_or(Error::Forgotten)),
                };
            }
            if cancelled() {
                return Err(Error::Cancelled);
            }
            if patience == Patience::Short && (silent || since.elapsed() >= SHORT) {
                return known.before(since);
            }
            known = asked.ended.wait_timeout(known, BEAT).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Known {
    /// What was said before, of a question that has been open since then.
    fn before(&self, since: Instant) -> Result<Offer, Error> {
        match (&self.failure, &self.offer) {
            // Whoever is down may come back as it was.
            (Some(failure), _) if !failure.is_retryable() => Err(failure.clone()),
            (_, Some((_, offer))) => Ok(offer.clone()),
            _ => Err(Error::Unreachable(Unanswered::Timeout(since.elapsed().as_secs()))),
        }
    }
}

impl Asked {
    /// Asks on a thread of its own, which ends within seconds.
    fn ask(self: &Arc<Self>, known: &mut Known) -> Result<Instant, Error> {
        let it = self.clone();
        let asks = move || {
            let answer = it.comfyui.offer(&it.workflow, &|| true);
            if let Err(error) = &answer {
                // Its operator is told where it is.
                tracing::warn!(address = it.address, "{error}");
            }
            let mut known = lock(&it.known);
            known.failure = answer.as_ref().err().cloned();
            if let Ok(offer) = answer {
                known.offer = Some((Instant::now(), offer));
            }
            (known.open, known.ended) = (None, known.ended + 1);
            it.ended.notify_all();
        };
        let started = std::thread::Builder::new().name("comfyui".into()).spawn(asks);
        started.map_err(|_| Error::Unreachable(Unanswered::Connection))?;
        Ok(*known.open.insert(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
    };

    use super::*;

    /// Offers of a program that takes connections and says nothing, until the listener goes.
    fn silent() -> (TcpListener, Offers) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let comfyui = ComfyUi::at(&address).unwrap();
        (listener, Offers::new(comfyui, address, Workflow::bundled(false)))
    }

    fn is_open(offers: &Offers) -> bool {
        lock(&offers.0.known).open.is_some()
    }

    #[test]
    fn short_patience_does_not_wait_for_a_program_that_says_nothing_and_takes_its_older_answer() {
        let (_listener, offers) = silent();
        let answer = offers.get(Patience::Short, &|| false);
        assert!(matches!(answer, Err(Error::Unreachable(Unanswered::Timeout(_)))), "{answer:?}");
        assert!(is_open(&offers), "the question goes on in the background");
        let long_ago = Instant::now().checked_sub(2 * BELIEVED).expect("this machine runs for longer");
        lock(&offers.0.known).offer = Some((long_ago, Offer::default()));
        assert_eq!(offers.get(Patience::Short, &|| false), Ok(Offer::default()));
        assert!(is_open(&offers));
        assert_eq!(offers.get(Patience::Long, &|| true), Err(Error::Cancelled), "a job waits, until it is cancelled");
    }

    #[test]
    fn all_who_wait_share_one_question_and_its_end() {
        let (listener, offers) = silent();
        // Whoever is asked whether it still waits has found the question open or asked it.
        let waits: [AtomicBool; 3] = Default::default();
        let answers = std::thread::scope(|scope| {
            let wait = |waits| {
                offers.get(Patience::Long, &|| {
                    AtomicBool::store(waits, true, Relaxed);
                    false
                })
            };
            let waiting = waits.each_ref().map(|waits| scope.spawn(move || wait(waits)));
            let (mut stream, _) = listener.accept().unwrap();
            while !waits.iter().all(|waits| waits.load(Relaxed)) {
                std::thread::yield_now();
            }
            // Closing a connection whose request was not read resets it, and the answer may be lost.
            let mut request = BufReader::new(&stream);
            while request.read_line(&mut String::new()).unwrap() > "\r\n".len() {}
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnull").unwrap();
            waiting.map(|thread| thread.join().unwrap())
        });
        assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Nonsense { .. }))), "{answers:?}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "it was asked once");
    }
}
