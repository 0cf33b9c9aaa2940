//! Clients that poll: when they will learn of a task's end, and polls that are held until then.
//!
//! ComfyUI's nodes poll at once and then every ten seconds, and draw their progress bar from the estimate that the submission was
//! answered with. So that the bar ends when the node does, the estimate says when the node will learn of the end; and so that it
//! learns of it soon, a poll that comes shortly before the end is answered at the end.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};
use enlarger_service::{follow::Follow, polls::Polls, submit::Accepted};
use enlarger_tasks::{Scope, Task, TaskState};
use tokio::{sync::Semaphore, time::Instant};
use uuid::Uuid;

use crate::http::ApiResult;

/// Sent by ComfyUI's nodes with every call. They learn of a task's end by polling, and stop when their user gives up.
const COMFYUI: &str = "comfy-env";
/// Seconds between polls of ComfyUI's nodes.
const GRID: f64 = 10.0;
/// A poll is held when fewer seconds are left. With more the next one comes in time, and holding this one would only move it.
const SOON: f64 = 9.0;
/// A poll is held no longer, however wrong the estimate was: ComfyUI notices an interrupt only once its poll is answered, and a task
/// whose client has not asked for 25 s yields to others.
const LONGEST_HOLD: Duration = Duration::from_secs(12);
/// Polls held at once. Each looks into the store every second; more are answered at once.
const HELD_AT_ONCE: usize = 64;

const ESTIMATE: HeaderName = HeaderName::from_static("x-comfy-estimated-duration-seconds");
const ESTIMATE_P90: HeaderName = HeaderName::from_static("x-comfy-estimated-duration-p90-seconds");
const ESTIMATE_SOURCE: HeaderName = HeaderName::from_static("x-comfy-estimate-source");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// What may come between: other work on the machine, a picture that is harder than most. A margin and not a measured quantile.
const MARGIN: f64 = 1.5;

/// Whether a request comes from ComfyUI.
pub(crate) fn is_comfyui(headers: &HeaderMap) -> bool {
    headers.contains_key(COMFYUI)
}

/// Answers clients that poll. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Poller {
    follow: Follow,
    polls: Polls,
    /// Polls that are answered once their task has ended.
    held: Arc<Semaphore>,
}

impl Poller {
    pub fn new(follow: Follow, polls: Polls) -> Self {
        Self { follow, polls, held: Arc::new(Semaphore::new(HELD_AT_ONCE)) }
    }

    /// The task, as it stands or, for a poll that is worth holding, once it has ended.
    ///
    /// # Errors
    /// 404 when there is no such task for this scope.
    pub async fn ask(&self, asked: &HeaderMap, id: Uuid, scope: &Scope) -> ApiResult<Task> {
        let place = if is_comfyui(asked) { self.held.try_acquire().ok() } else { None };
        let hold = if place.is_some() { LONGEST_HOLD } else { Duration::ZERO };
        self.polls.asked(id);
        let task = self.follow.until(scope, id, Instant::now() + hold, SOON).await?;
        self.polls.asked(id);
        Ok(task)
    }

    /// Adds what clients want to know of a task that they wait for.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn promise(&self, asked: &HeaderMap, accepted: &Accepted, mut response: Response) -> ApiResult<Response> {
        Promise::of(&self.follow, &accepted.task).await?.write(asked, response.headers_mut());
        if accepted.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}

/// When a task is expected to end.
struct Promise {
    seconds: f64,
    source: &'static str,
}

impl Promise {
    async fn of(follow: &Follow, task: &Task) -> ApiResult<Self> {
        let known = task.request.get("source").is_some_and(|source| !source.is_null());
        let source = match task.state {
            TaskState::InProgress if task.progress.is_some() => "progress",
            _ if known => "calibration",
            // Nothing is known yet of a picture that is still to be fetched.
            _ => "default",
        };
        Ok(Self { seconds: follow.seconds_left(task).await?, source })
    }

    /// Tells the client that sent `asked`.
    fn write(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        let told = |seconds: f64| {
            let seconds = if asked.contains_key(COMFYUI) { noticed(seconds) } else { seconds };
            HeaderValue::from(seconds.ceil().clamp(1.0, 86_400.0) as u64)
        };
        answer.insert(ESTIMATE, told(self.seconds));
        answer.insert(ESTIMATE_P90, told(self.seconds * MARGIN));
        answer.insert(ESTIMATE_SOURCE, HeaderValue::from_static(self.source));
    }
}

/// The seconds after which ComfyUI learns of an end in `seconds`. Its first poll comes at once, and is held if the end is near. Any
/// later one is on the grid: it will be held if the estimate is right, and come after the end if not, so the grid's next line is what
/// can be promised.
fn noticed(seconds: f64) -> f64 {
    if seconds < SOON { seconds } else { (seconds / GRID).ceil() * GRID }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seconds: f64, comfyui: bool) -> (String, String) {
        let (mut asked, mut answer) = (HeaderMap::new(), HeaderMap::new());
        if comfyui {
            asked.insert(COMFYUI, HeaderValue::from_static("local-git"));
        }
        Promise { seconds, source: "calibration" }.write(&asked, &mut answer);
        assert_eq!(answer[ESTIMATE_SOURCE], "calibration");
        let text = |name: HeaderName| answer[name].to_str().unwrap().to_owned();
        (text(ESTIMATE), text(ESTIMATE_P90))
    }

    #[test]
    fn an_estimate_says_when_the_poller_will_learn_of_the_end() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        // Held from the first poll on.
        assert_eq!(told(0.2, true), pair("1", "1"));
        assert_eq!(told(4.1, true), pair("5", "7"));
        // Noticed by a poll after 10, 20 or 30 s.
        assert_eq!(told(9.0, true), pair("10", "20"));
        assert_eq!(told(13.0, true), pair("20", "20"));
        assert_eq!(told(20.0, true), pair("20", "30"));
        assert_eq!(told(20.1, true), pair("30", "40"));
        // Others poll as they like.
        assert_eq!(told(13.0, false), pair("13", "20"));
        assert_eq!(told(1e9, true), pair("86400", "86400"));
        assert_eq!(told(0.0, false), pair("1", "1"));
    }
}
