//! Which tasks' files are being read, so that none is deleted to free space during a download.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use uuid::Uuid;

/// How many downloads of each task's files are under way in this process.
#[derive(Debug, Clone, Default)]
pub struct Reads(Arc<Mutex<HashMap<Uuid, usize>>>);

impl Reads {
    /// The tasks whose files are being read.
    pub fn tasks(&self) -> Vec<Uuid> {
        self.0.lock().expect("no panic under it").keys().copied().collect()
    }

    /// Counts as a download of this task's until it is dropped.
    pub fn of(&self, task: Uuid) -> Reading {
        *self.0.lock().expect("no panic under it").entry(task).or_default() += 1;
        Reading { task, reads: self.clone() }
    }
}

/// A download of a task's file.
#[derive(Debug)]
pub struct Reading {
    task: Uuid,
    reads: Reads,
}

impl Drop for Reading {
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
        let [first, second] = [reads.of(a), reads.of(a)];
        drop(reads.of(b));
        assert_eq!(reads.tasks(), [a]);
        drop(first);
        assert_eq!(reads.tasks(), [a]);
        drop(second);
        assert!(reads.tasks().is_empty());
    }
}
