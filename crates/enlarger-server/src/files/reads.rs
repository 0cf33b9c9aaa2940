//! Which tasks' files are being read, so that none is deleted for room while somebody downloads it.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use uuid::Uuid;

/// How many downloads of each task's files are under way in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads(Arc<Mutex<HashMap<Uuid, usize>>>);

impl Reads {
    /// The tasks whose files are being read.
    pub fn tasks(&self) -> Vec<Uuid> {
        self.0.lock().expect("no panic under it").keys().copied().collect()
    }

    /// The same body, which counts as a download of this task's until it has been sent or given up.
    pub fn of(&self, task: Uuid, body: Body) -> Body {
        *self.0.lock().expect("no panic under it").entry(task).or_default() += 1;
        Body::new(Download { body, task, reads: self.clone() })
    }
}

struct Download {
    body: Body,
    task: Uuid,
    reads: Reads,
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let mut reads = self.reads.0.lock().expect("no panic under it");
        if let Some(count) = reads.get_mut(&self.task) {
            *count -= 1;
            if *count == 0 {
                reads.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_being_read_until_the_last_of_its_downloads_ends() {
        let reads = Reads::default();
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        let [first, second] = [reads.of(a, Body::from("result")), reads.of(a, Body::from("map"))];
        drop(reads.of(b, Body::from("given up")));
        assert_eq!(reads.tasks(), [a]);
        drop(first);
        assert_eq!(reads.tasks(), [a]);
        drop(second);
        assert!(reads.tasks().is_empty());
    }
}
