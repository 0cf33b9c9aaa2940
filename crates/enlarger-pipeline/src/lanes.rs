//! Devices side by side. A job stays on the device that it began on, whose networks it uses.

use std::sync::{Arc, Mutex, PoisonError};

use enlarger_nn::{Device, Health};

use crate::networks::Networks;

/// Jobs that a GPU usually takes at once: while one computes, the other is read or written.
const GPU_JOBS: usize = 2;

/// A device, and how many jobs it takes at once.
#[derive(Debug, Clone)]
pub struct Lane {
    /// What networks run on.
    pub device: Arc<dyn Device>,
    /// 1 or more.
    pub slots: usize,
}

impl Lane {
    /// The slots of a device of which nothing is said: 2 of a GPU, 1 of the CPU.
    pub fn usual(device: &dyn Device) -> usize {
        if device.health().is_some() { GPU_JOBS } else { 1 }
    }
}

/// A device and what it does now.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneStatus {
    /// Its name and arithmetic.
    pub device: String,
    /// How many jobs it takes at once.
    pub slots: usize,
    /// How many it has.
    pub running: usize,
    /// How it does, of a GPU.
    pub gpu: Option<Health>,
}

/// All lanes, the fastest first.
pub(crate) struct Lanes {
    lanes: Vec<Running>,
    /// Jobs in each.
    running: Mutex<Vec<usize>>,
}

struct Running {
    networks: Networks,
    slots: usize,
}

impl Running {
    /// Whether its device works; what has failed too often runs on the CPU.
    fn works(&self) -> bool {
        self.networks.device().health().is_none_or(|health| health.in_use)
    }
}

/// A job's place in a lane.
pub(crate) struct Place<'a> {
    lanes: &'a Lanes,
    at: usize,
}

impl Place<'_> {
    pub fn networks(&self) -> &Networks {
        &self.lanes.lanes[self.at].networks
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lanes.running.lock().unwrap_or_else(PoisonError::into_inner)[self.at] -= 1;
    }
}

impl Lanes {
    /// From networks and slots, the fastest first.
    pub fn new(lanes: Vec<(Networks, usize)>) -> Self {
        let lanes: Vec<Running> =
            lanes.into_iter().map(|(networks, slots)| Running { networks, slots: slots.max(1) }).collect();
        Self { running: Mutex::new(vec![0; lanes.len()]), lanes }
    }

    /// The networks that a job most likely uses.
    pub fn usual(&self) -> &Networks {
        &self.lanes.iter().find(|lane| lane.works()).unwrap_or(&self.lanes[0]).networks
    }

    /// How many times as fast as the usual device all are that work. Jobs of one device share it. A device that was not measured yet
    /// counts as much as the usual one.
    pub fn pace(&self) -> f64 {
        let usual = self.usual().rate();
        let times = |lane: &Running| lane.networks.rate().zip(usual).map_or(1.0, |(rate, usual)| rate / usual);
        self.lanes.iter().filter(|lane| lane.works()).map(times).sum::<f64>().max(1.0)
    }

    /// Jobs that may run at once.
    pub fn slots(&self) -> usize {
        self.lanes.iter().map(|lane| lane.slots).sum()
    }

    /// Takes a place in the lane that has the most room for its size; of those alike, the fastest. Where the device has failed, there
    /// is room only when the others are full.
    pub fn enter(&self) -> Place<'_> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |&at: &usize| {
            let (lane, jobs) = (&self.lanes[at], running[at]);
            (jobs >= lane.slots, !lane.works(), jobs * 1000 / lane.slots)
        };
        let at = (0..self.lanes.len()).min_by_key(key).unwrap_or_default();
        running[at] += 1;
        Place { lanes: self, at }
    }

    pub fn status(&self) -> Vec<LaneStatus> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lanes = self.lanes.iter().zip(running);
        let status = lanes.map(|(lane, running)| {
            let device = lane.networks.device();
            LaneStatus { device: device.to_string(), slots: lane.slots, running, gpu: device.health() }
        });
        status.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use enlarger_models::Catalogue;
    use enlarger_nn::{Architecture, Arithmetic, Backend, Model, NnError, StateDict};

    use super::*;

    /// A GPU that runs nothing.
    #[derive(Debug, Default)]
    struct Fake {
        failed: AtomicBool,
    }

    impl Device for Fake {
        fn name(&self) -> &str {
            "fake"
        }
        fn title(&self) -> &str {
            "Fake"
        }
        fn arithmetic(&self) -> Arithmetic {
            Arithmetic::F16
        }
        fn health(&self) -> Option<Health> {
            Some(Health { in_use: !self.failed.load(Ordering::Relaxed), ..Health::default() })
        }
        fn load(&self, _: &dyn Architecture, _: &StateDict) -> Result<Box<dyn Model>, NnError> {
            Err(NnError::Device("it runs nothing".into()))
        }
    }

    #[test]
    fn all_devices_together_are_as_fast_as_each_has_shown() {
        let catalogue = Arc::new(Catalogue::open(None).expect("the bundled models"));
        let devices: [Arc<dyn Device>; 3] =
            [Arc::new(Fake::default()), Arc::new(Fake::default()), Backend::default().find().expect("the CPU")];
        let networks = |device: &Arc<dyn Device>| (Networks::new(catalogue.clone(), device.clone(), 1), 2);
        let lanes = Lanes::new(devices.iter().map(networks).collect());
        assert_eq!(lanes.pace(), 3.0, "nothing is known");
        for (lane, milliseconds) in lanes.lanes.iter().zip([10, 20, 100]) {
            lane.networks.learn("animevideo-v3", 1 << 20, Duration::from_millis(milliseconds));
        }
        assert!((lanes.pace() - 1.6).abs() < 1e-9, "{}", lanes.pace());
    }

    #[test]
    fn jobs_spread_over_devices_and_avoid_those_that_failed() {
        let devices = [Arc::new(Fake::default()), Arc::new(Fake::default())];
        let catalogue = Arc::new(Catalogue::open(None).expect("the bundled models"));
        let networks = |device: &Arc<Fake>| (Networks::new(catalogue.clone(), device.clone(), 1), 2);
        let lanes = Lanes::new(devices.iter().map(networks).collect());
        assert_eq!(lanes.slots(), 4);
        let places: Vec<Place<'_>> = (0..4).map(|_| lanes.enter()).collect();
        assert_eq!(places.iter().map(|place| place.at).collect::<Vec<_>>(), [0, 1, 0, 1]);
        let running = || lanes.status().iter().map(|lane| lane.running).collect::<Vec<_>>();
        assert_eq!(running(), [2, 2]);
        drop(places);
        assert_eq!(running(), [0, 0]);

        devices[0].failed.store(true, Ordering::Relaxed);
        assert!(std::ptr::eq(lanes.usual(), &lanes.lanes[1].networks));
        let places: Vec<Place<'_>> = (0..3).map(|_| lanes.enter()).collect();
        assert_eq!(places.iter().map(|place| place.at).collect::<Vec<_>>(), [1, 1, 0], "there is no other room");
    }
}
