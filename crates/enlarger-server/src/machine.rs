//! The machine's memory.

/// Bytes of memory that this process may use: the machine's, or its container's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub total: u64,
    pub available: u64,
}

/// As it is now.
pub(crate) fn memory() -> Memory {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let (total, available) = (system.total_memory(), system.available_memory());
    let group = system.cgroup_limits();
    Memory {
        total: group.as_ref().map_or(total, |group| total.min(group.total_memory)),
        available: group.map_or(available, |group| available.min(group.free_memory)),
    }
}
