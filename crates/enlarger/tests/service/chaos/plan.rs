//! What is to happen: the file, and the schedule that follows from its seed.

use serde::Deserialize;

/// A file such as `short.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub seed: u64,
    pub apis: usize,
    pub workers: usize,
    pub seconds: f64,
    pub clocks: Vec<i64>,
    pub lease: u64,
    pub disk: u32,
    pub workload: Workload,
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Who is broken from the start, to see that the runner notices.
    #[serde(default)]
    pub saboteurs: Vec<Saboteur>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    pub clients: usize,
    pub at_least: usize,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub what: What,
    pub on: Role,
    pub times: usize,
    /// How long it lasts: anything between these two.
    pub seconds: [f64; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// kill -9, and another start later.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Freeze,
    SlowDatabase,
    SilentDatabase,
    CutDatabase,
    SlowStorage,
    SilentStorage,
    CutStorage,
    /// Answers 503.
    BusyStorage,
    FullDisk,
    /// For all nodes.
    RestartDatabase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Api,
    Worker,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Saboteur {
    /// The last API has a database of its own.
    ApiOfItsOwn,
    /// The last worker signs webhooks with another secret.
    WorkerWithAnotherSecret,
    /// The storage loses a result.
    ForgetfulStorage,
}

/// The beginning or the end of a fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Seconds after the start.
    pub at: f64,
    /// APIs first.
    pub node: usize,
    pub what: What,
    pub begins: bool,
}

impl Plan {
    pub fn read(text: &str) -> Self {
        let plan: Self = toml::from_str(text).unwrap_or_else(|error| panic!("the plan cannot be read: {error}"));
        assert!(plan.apis > 0 && plan.workers > 0 && !plan.clocks.is_empty(), "nothing to run: {plan:?}");
        plan
    }

    /// The same for the same plan.
    pub fn schedule(&self) -> Vec<Step> {
        let mut dice = Dice::new(self.seed, 0);
        let mut steps = Vec::new();
        for fault in &self.faults {
            let nodes = match fault.on {
                Role::Api => 0..self.apis,
                Role::Worker => self.apis..self.apis + self.workers,
                Role::Any => 0..self.apis + self.workers,
            };
            for _ in 0..fault.times {
                let node = nodes.start + dice.below(nodes.len());
                let at = dice.fraction() * self.seconds;
                let [shortest, longest] = fault.seconds;
                let length = shortest + dice.fraction() * (longest - shortest);
                let step = Step { at, node, what: fault.what, begins: true };
                steps.extend([step, Step { at: at + length, begins: false, ..step }]);
            }
        }
        steps.sort_by(|a, b| a.at.total_cmp(&b.at));
        steps
    }
}

/// Numbers that look random and are the same every time.
pub struct Dice(u64);

impl Dice {
    /// `stream` distinguishes those who throw at the same time.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        // SplitMix64, Steele, Lea and Flood 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn a_seed_is_a_schedule() {
    let plan = Plan::read(include_str!("short.toml"));
    let steps = plan.schedule();
    assert_eq!(steps, plan.schedule());
    assert_ne!(steps, Plan { seed: plan.seed + 1, ..plan.clone() }.schedule());
    let faults: usize = plan.faults.iter().map(|fault| fault.times).sum();
    assert_eq!(steps.len(), 2 * faults);
    assert!(steps.is_sorted_by(|a, b| a.at <= b.at) && steps.iter().all(|step| step.node < 7), "{steps:?}");
}
