//! Where things are kept.

use std::path::PathBuf;

use etcetera::{AppStrategy, AppStrategyArgs, choose_app_strategy};

/// The data directory: `ENLARGER_DATA_DIR`, else the platform's place for an application's data.
pub fn data_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("ENLARGER_DATA_DIR") {
        return Some(dir.into());
    }
    let app =
        AppStrategyArgs { top_level_domain: "org".into(), author: "enlarger".into(), app_name: "enlarger".into() };
    choose_app_strategy(app).ok().map(|strategy| strategy.data_dir())
}

/// The folder of added networks.
pub fn models_dir() -> Option<PathBuf> {
    data_dir().map(|dir| dir.join("models"))
}
