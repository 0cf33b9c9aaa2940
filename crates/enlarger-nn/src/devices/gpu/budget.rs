//! A card's memory as far as it may be used, which upscaling networks and tensors share.
//!
//! Weights of networks and all that belongs to tensors stay for long. The maps of a strip come and go, and take what is left; a narrow
//! strip with its bands is always allowed, so that a network never has to wait for tensors.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Bytes that may be used, and that are.
#[derive(Debug)]
pub struct Budget {
    /// All that may be used.
    pub bytes: u64,
    /// Weights of networks on the card.
    weights: AtomicU64,
    /// What the largest of these needs beside its weights.
    least: AtomicU64,
    /// Buffers of tensors.
    tensors: AtomicU64,
    /// What passes that run have said to need of tensors.
    reserved: AtomicU64,
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    of: fn(&Budget) -> &AtomicU64,
    pub(super) bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        (self.of)(&self.budget).fetch_sub(self.bytes, Relaxed);
    }
}

impl Budget {
    pub fn new(bytes: u64) -> Arc<Self> {
        let [weights, least, tensors, reserved] = std::array::from_fn(|_| AtomicU64::default());
        Arc::new(Self { bytes, weights, least, tensors, reserved })
    }

    /// For the weights of a network.
    pub fn weights(self: &Arc<Self>, bytes: u64) -> Share {
        self.share(|budget| &budget.weights, bytes)
    }

    /// Notes that there is a network that needs so much beside its weights to run at all.
    pub fn network_needs(&self, bytes: u64) {
        self.least.fetch_max(bytes, Relaxed);
    }

    /// For a pass that will need so much for tensors: strips that begin from now on leave it alone.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Share {
        self.share(|budget| &budget.reserved, bytes)
    }

    /// Notes how much tensors take now.
    pub fn tensors_take(&self, bytes: u64) {
        self.tensors.store(bytes, Relaxed);
    }

    /// What is left for the maps of a strip.
    pub fn for_maps(&self) -> u64 {
        let tensors = self.tensors.load(Relaxed).max(self.reserved.load(Relaxed));
        self.bytes.saturating_sub(self.weights.load(Relaxed) + tensors)
    }

    /// What the networks that are on the card need to run.
    pub fn for_networks(&self) -> u64 {
        self.weights.load(Relaxed) + self.least.load(Relaxed)
    }

    fn share(self: &Arc<Self>, of: fn(&Self) -> &AtomicU64, bytes: u64) -> Share {
        of(self).fetch_add(bytes, Relaxed);
        Share { budget: self.clone(), of, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_networks_and_tensors_take_is_counted_once_and_given_back() {
        let budget = Budget::new(1000);
        let networks = [budget.weights(100), budget.weights(30)];
        [50, 20].into_iter().for_each(|least| budget.network_needs(least));
        assert_eq!((budget.for_networks(), budget.for_maps()), (180, 870));
        let pass = budget.reserve(500);
        assert_eq!(budget.for_maps(), 370);
        budget.tensors_take(300);
        assert_eq!(budget.for_maps(), 370, "they are a part of what was reserved");
        drop(pass);
        assert_eq!(budget.for_maps(), 570, "the model that ran last stays");
        budget.tensors_take(0);
        drop(networks);
        assert_eq!(budget.for_maps(), 1000);
        let pass = budget.reserve(2000);
        assert_eq!(budget.for_maps(), 0);
        drop(pass);
    }
}
