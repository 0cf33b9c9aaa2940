//! Where the time comes from. Nothing in this crate asks the operating system directly, so that leases, retention
//! and retry schedules are tested without waiting.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use jiff::Timestamp;

/// A source of the present time.
pub trait Clock: Debug + Send + Sync {
    /// The present time. Stores keep milliseconds; anything finer is dropped.
    fn now(&self) -> Timestamp;

    /// Whether it is only this machine's. A database that several machines share goes by its own clock instead, so that
    /// they agree on leases however theirs differ.
    fn is_local(&self) -> bool {
        false
    }
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    milliseconds: AtomicI64,
}

impl ManualClock {
    /// A clock standing at `start`.
    pub fn new(start: Timestamp) -> Self {
        ManualClock { milliseconds: AtomicI64::new(start.as_millisecond()) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.milliseconds.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.milliseconds.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }
}
