//! The life cycle against a model that keeps nothing but the list of events that were accepted.

use enlarger_tasks::state::{Event, Holder, Life, TaskState};
use proptest::prelude::*;

const MAX_FAILURES: u32 = 3;

/// What the list of accepted events says about the task; written without looking at a single transition.
#[derive(Debug, PartialEq)]
struct Model {
    state: TaskState,
    run: u32,
    attempt: u32,
    failures: u32,
    worker: Option<String>,
}

fn model(accepted: &[Event]) -> Model {
    let last_retry = accepted.iter().rposition(|event| *event == Event::Retry);
    let this_run = &accepted[last_retry.map_or(0, |at| at + 1)..];
    // A lost worker that proves nothing makes a suspect of the first offender and nothing more.
    let failures = this_run.iter().fold(0, |failures: u32, event| match event {
        Event::Fail { .. } | Event::LeaseExpired => failures + 1,
        Event::Orphaned => failures.max(1),
        _ => failures,
    });
    let state = match this_run.last() {
        None | Some(Event::Retry | Event::Release(_) | Event::Orphaned) => TaskState::Created,
        Some(Event::Claim { .. }) => TaskState::InProgress,
        Some(Event::Complete(_)) => TaskState::Completed,
        Some(Event::Cancel) => TaskState::Cancelled,
        Some(Event::Fail { again: false, .. }) => TaskState::Failed,
        Some(Event::Fail { again: true, .. } | Event::LeaseExpired) if failures >= MAX_FAILURES => TaskState::Failed,
        Some(Event::Fail { again: true, .. } | Event::LeaseExpired) => TaskState::Created,
    };
    Model {
        state,
        run: 1 + accepted.iter().filter(|event| **event == Event::Retry).count() as u32,
        attempt: accepted.iter().filter(|event| matches!(event, Event::Claim { .. })).count() as u32,
        failures,
        worker: match this_run.last() {
            Some(Event::Claim { worker }) => Some(worker.clone()),
            _ => None,
        },
    }
}

/// Whether the task that went through `accepted` must take `event`.
fn must_accept(accepted: &[Event], event: &Event) -> bool {
    let now = model(accepted);
    let holds = |holder: &Holder| {
        now.state == TaskState::InProgress
            && holder.attempt == now.attempt
            && Some(&holder.worker) == now.worker.as_ref()
    };
    match event {
        Event::Claim { .. } => now.state == TaskState::Created,
        Event::Complete(holder) | Event::Release(holder) | Event::Fail { holder, .. } => holds(holder),
        Event::LeaseExpired | Event::Orphaned => now.state == TaskState::InProgress,
        Event::Cancel => matches!(now.state, TaskState::Created | TaskState::InProgress),
        Event::Retry => matches!(now.state, TaskState::Failed | TaskState::Cancelled),
    }
}

fn event() -> impl Strategy<Value = Event> {
    let worker = || prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
    let holder = || (1u32..6, worker()).prop_map(|(attempt, worker)| Holder { attempt, worker });
    prop_oneof![
        6 => worker().prop_map(|worker| Event::Claim { worker }),
        3 => holder().prop_map(Event::Complete),
        6 => (holder(), any::<bool>()).prop_map(|(holder, again)| Event::Fail { holder, again }),
        3 => holder().prop_map(Event::Release),
        4 => Just(Event::LeaseExpired),
        2 => Just(Event::Orphaned),
        1 => Just(Event::Cancel),
        2 => Just(Event::Retry),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_leaves_what_the_accepted_ones_say(events in prop::collection::vec(event(), 0..60)) {
        let mut life = Life::new();
        let mut accepted = Vec::new();
        for event in events {
            let taken = life.apply(&event, MAX_FAILURES);
            prop_assert_eq!(taken.is_ok(), must_accept(&accepted, &event), "{:?} after {:?}", event, accepted);
            if let Ok(next) = taken {
                life = next;
                accepted.push(event);
            }
            let Life { state, run, attempt, failures, worker } = life.clone();
            prop_assert_eq!(Model { state, run, attempt, failures, worker }, model(&accepted));
        }
    }
}
