//! The machine: how much memory is available, what this process uses, and how many cores there are.

use std::num::NonZeroUsize;

use enlarger_image::{ImageError, Samples};

/// Bytes of memory that this process may use: the machine's, or its container's if that is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All there are.
    pub total: u64,
    /// Those that nobody uses. The system's file cache is returned on demand, so it does not count as used.
    pub available: u64,
}

impl Memory {
    /// As it is now.
    pub fn now() -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let machine = Self { total: system.total_memory(), available: system.available_memory() };
        match system.cgroup_limits() {
            Some(group) => machine.within(group.total_memory, group.rss),
            None => machine,
        }
    }

    /// In a group that may have `limit` bytes and whose processes hold `held`. The kernel's own count of a group's use
    /// includes the file cache: overnight it grows to the limit.
    fn within(self, limit: u64, held: u64) -> Self {
        let total = self.total.min(limit);
        // A group without a limit has the machine's.
        let left = if limit < self.total { limit.saturating_sub(held) } else { self.available };
        Self { total, available: self.available.min(left) }
    }
}

/// Threads that this machine runs at once; 1 if it does not tell.
pub fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// What filters and encoders take at most besides pictures: bands and strips of rows.
const SMALL: u64 = 64 << 20;

/// Room for the small things that are not asked for one by one.
///
/// # Errors
/// [`ImageError::OutOfMemory`] if there is none.
pub(crate) fn room_for_small() -> Result<(), ImageError> {
    Samples::zeroed(8, SMALL).map(drop)
}

/// The most bytes that this process held at once since [`reset_peak`]; `None` where the system does not report it.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Resets the peak, where the system can (Linux: proc_pid_clear_refs(5)).
pub(crate) fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_what_its_processes_leave_of_its_limit() {
        const GB: u64 = 1 << 30;
        let machine = Memory { total: 24 * GB, available: 20 * GB };
        assert_eq!(machine.within(24 * GB, 3 * GB), machine, "without a limit of its own");
        assert_eq!(machine.within(u64::MAX, 3 * GB), machine);
        assert_eq!(machine.within(4 * GB, 3 * GB), Memory { total: 4 * GB, available: GB });
        assert_eq!(machine.within(22 * GB, GB), Memory { total: 22 * GB, available: 20 * GB });
        assert_eq!(machine.within(GB, 2 * GB).available, 0);
    }
}
