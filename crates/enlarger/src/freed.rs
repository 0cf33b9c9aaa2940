//! Memory that is freed goes back to the system.

/// Keeps a process that runs one job after the other as small as after its first.
///
/// glibc gives a large block a mapping of its own, which ends when it is freed, but takes the first such block as a sign to keep
/// blocks of that size in its arenas from then on (mallopt(3), `M_MMAP_THRESHOLD`). There is an arena for each few threads, so a server
/// comes to keep the memory of a job several times. A threshold that was set stays.
pub fn goes_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// In bytes. Images and the maps of models are larger.
        const LARGE: libc::c_int = 1 << 20;
        /// In bytes: glibc's default.
        const TRIM: libc::c_int = 1 << 17;
        // SAFETY: mallopt only sets parameters of the allocator, under its lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM);
        }
    }
}
