//! What is held against a cluster.

use std::collections::{BTreeMap, BTreeSet};

/// What clients and the receiver of webhooks saw.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What was sent, by idempotency key.
    pub sent: BTreeMap<String, Sent>,
    /// What became of tasks, by id.
    pub tasks: BTreeMap<String, Outcome>,
    /// How many tasks the cluster lists.
    pub listed: usize,
    pub webhooks: Vec<Told>,
    /// What clients saw on the way that must not be.
    pub complaints: Vec<String>,
}

/// One request, as often as it was sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// The tasks that any node said it made. Of a cluster that keeps its promises, one.
    pub ids: BTreeSet<String>,
    /// Of the result, in pixels.
    pub size: (u32, u32),
    pub webhook: bool,
    /// Whether the client changed its mind.
    pub cancelled: bool,
}

/// A task in the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub status: String,
    /// The size of the result that was downloaded and decoded, or why it was not. `None`: the task names none.
    pub result: Option<Result<(u32, u32), String>>,
}

/// A webhook as it came.
#[derive(Debug, Clone)]
pub struct Told {
    pub event: String,
    pub task: String,
    pub status: String,
    /// Whether its signature and time are right.
    pub signed: bool,
}

/// All that is wrong, as sentences. Empty: every promise was kept.
pub fn violations(evidence: &Evidence) -> Vec<String> {
    let mut wrong = evidence.complaints.clone();
    let mut known: BTreeSet<&String> = BTreeSet::new();
    for (key, sent) in &evidence.sent {
        known.extend(&sent.ids);
        match sent.ids.len() {
            0 => wrong.push(format!("never accepted: {key}")),
            1 => {}
            _ => wrong.push(format!("doubled: {key} is {:?}", sent.ids)),
        }
        for id in &sent.ids {
            let Some(outcome) = evidence.tasks.get(id) else {
                wrong.push(format!("lost: {id} of {key}"));
                continue;
            };
            match (&*outcome.status, &outcome.result) {
                ("COMPLETED", Some(Ok(size))) if *size == sent.size => {}
                ("COMPLETED", result) => wrong.push(format!("completed without its result: {id}, {result:?}")),
                ("CANCELLED", None) if sent.cancelled => {}
                (status, result) => wrong.push(format!("ended wrong: {id} is {status} with {result:?}")),
            }
            // Webhooks are worded as Magnific's, which know no other end than these two.
            let status = if outcome.status == "COMPLETED" { "COMPLETED" } else { "FAILED" };
            let told = evidence.webhooks.iter().filter(|told| told.task == *id && told.status == status);
            let events: BTreeSet<_> = told.map(|told| &told.event).collect();
            let expected = usize::from(sent.webhook);
            if events.len() != expected {
                wrong.push(format!("announced {} times instead of {expected}: {status} of {id}", events.len()));
            }
        }
    }
    if evidence.listed != known.len() {
        wrong.push(format!("doubled: the cluster lists {} tasks, clients know of {}", evidence.listed, known.len()));
    }
    let mut statuses: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for told in &evidence.webhooks {
        if !told.signed {
            wrong.push(format!("not signed: {} of {}", told.status, told.task));
        }
        if !known.contains(&told.task) {
            wrong.push(format!("doubled: nobody sent {}, of which a webhook tells", told.task));
        }
        statuses.entry((&told.task, &told.status)).or_default().insert(&told.event);
    }
    for ((task, status), events) in statuses {
        if events.len() > 1 {
            wrong.push(format!("doubled: {status} of {task} is {} events", events.len()));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(event: &str, task: &str, status: &str) -> Told {
        Told { event: event.into(), task: task.into(), status: status.into(), signed: true }
    }

    fn good() -> Evidence {
        let sent =
            |id: &str, webhook, cancelled| Sent { ids: [id.to_owned()].into(), size: (64, 48), webhook, cancelled };
        let done = Outcome { status: "COMPLETED".into(), result: Some(Ok((64, 48))) };
        Evidence {
            sent: [
                ("key 1".into(), sent("a", true, false)),
                ("key 2".into(), sent("b", false, true)),
                ("key 3".into(), sent("c", true, true)),
            ]
            .into(),
            tasks: [
                ("a".into(), done.clone()),
                ("b".into(), Outcome { status: "CANCELLED".into(), result: None }),
                ("c".into(), done),
            ]
            .into(),
            listed: 3,
            // One came twice, as it may.
            webhooks: vec![
                told("1", "a", "IN_PROGRESS"),
                told("2", "a", "COMPLETED"),
                told("2", "a", "COMPLETED"),
                told("3", "c", "COMPLETED"),
            ],
            complaints: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_held_against_a_good_cluster_and_everything_against_a_bad_one() {
        assert_eq!(violations(&good()), [""; 0]);
        type Wrong = fn(&mut Evidence);
        let wrongs: [(&str, Wrong); 16] = [
            ("never accepted", |it| it.sent.get_mut("key 2").unwrap().ids.clear()),
            ("doubled: key 1", |it| {
                it.sent.get_mut("key 1").unwrap().ids.insert("b".into());
            }),
            ("lost: a", |it| drop(it.tasks.remove("a"))),
            ("doubled: the cluster lists 4", |it| it.listed = 4),
            ("doubled: the cluster lists 2", |it| it.listed = 2),
            ("completed without its result: a", |it| it.tasks.get_mut("a").unwrap().result = None),
            ("completed without its result: a", |it| {
                it.tasks.get_mut("a").unwrap().result = Some(Err("404".into()));
            }),
            ("completed without its result: a", |it| it.tasks.get_mut("a").unwrap().result = Some(Ok((32, 24)))),
            ("ended wrong: c is FAILED", |it| it.tasks.get_mut("c").unwrap().status = "FAILED".into()),
            ("ended wrong: a is CANCELLED", |it| {
                it.tasks.insert("a".into(), Outcome { status: "CANCELLED".into(), result: None });
            }),
            ("ended wrong: b is CANCELLED with", |it| it.tasks.get_mut("b").unwrap().result = Some(Ok((64, 48)))),
            ("announced 0 times instead of 1: COMPLETED of c", |it| drop(it.webhooks.pop())),
            ("announced 2 times instead of 1: COMPLETED of a", |it| it.webhooks[1].event = "9".into()),
            ("doubled: IN_PROGRESS of a is 2 events", |it| it.webhooks.push(told("8", "a", "IN_PROGRESS"))),
            ("not signed: IN_PROGRESS of a", |it| it.webhooks[0].signed = false),
            ("nobody sent z", |it| it.webhooks[0].task = "z".into()),
        ];
        for (expected, wrong) in wrongs {
            let mut evidence = good();
            wrong(&mut evidence);
            let found = violations(&evidence);
            assert!(found.iter().any(|sentence| sentence.contains(expected)), "{expected}: {found:?}");
        }
    }
}
