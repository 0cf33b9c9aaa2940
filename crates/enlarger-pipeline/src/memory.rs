//! Memory: what there is, and what this process has taken.

use enlarger_image::{ImageError, Samples};

/// Bytes that this process may still take: the machine's, or its container's if that is less.
pub(crate) fn available() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let free = system.available_memory();
    system.cgroup_limits().map_or(free, |group| free.min(group.free_memory))
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

/// The most bytes that this process held at once since [`reset_peak`]; `None` where the system does not tell.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Counts the peak anew, where the system can (Linux: proc_pid_clear_refs(5)).
pub(crate) fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
