//! Mesa's software renderer as this process's only Vulkan driver.

use std::{path::Path, sync::Once};

/// Loads it, and the Vulkan loader: once they are in memory, that is where the loader's name leads.
///
/// # Panics
/// If `make test-setup` has not unpacked them.
pub fn load() {
    static LOADED: Once = Once::new();
    LOADED.call_once(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/lavapipe");
        let driver = folder.join("driver.json");
        assert!(driver.exists(), "{} is missing: run `make test-setup`", driver.display());
        // SAFETY: this is the first thing that tests do, each in a process of its own (nextest).
        unsafe { std::env::set_var("VK_DRIVER_FILES", driver) };
        // SAFETY: a library of Debian, which computes nothing when it is loaded.
        let loader = unsafe { libloading::Library::new(folder.join("libvulkan.so.1")) };
        std::mem::forget(loader.expect("the Vulkan loader loads"));
    });
}
