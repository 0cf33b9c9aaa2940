//! Where things are kept.

use std::path::PathBuf;

use etcetera::{AppStrategy, AppStrategyArgs, choose_app_strategy};

/// The data directory: `ENLARGER_DATA_DIR`, else the platform's place for an application's data.
pub fn data_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("ENLARGER_DATA_DIR") {
        return Some(dir.into());
    }
    places().map(|places| places.data_dir())
}

/// The server's settings in the platform's place for an application's settings, if they are there.
pub fn config_file() -> Option<PathBuf> {
    places().map(|places| places.config_dir().join("config.toml")).filter(|file| file.exists())
}

fn places() -> Option<impl AppStrategy> {
    let app =
        AppStrategyArgs { top_level_domain: "org".into(), author: "enlarger".into(), app_name: "enlarger".into() };
    choose_app_strategy(app).ok()
}

/// Folders with checkpoints and their like: `ENLARGER_MODEL_DIRS`, separated by commas, else those of ComfyUI and A1111 where people
/// mostly have them.
pub fn model_dirs() -> Vec<PathBuf> {
    if let Some(dirs) = std::env::var_os("ENLARGER_MODEL_DIRS") {
        let dirs = dirs.to_string_lossy().into_owned();
        return dirs.split(',').map(str::trim).filter(|dir| !dir.is_empty()).map(PathBuf::from).collect();
    }
    let Ok(home) = etcetera::home_dir() else { return Vec::new() };
    ["ComfyUI", "Documents/ComfyUI", "stable-diffusion-webui", "stable-diffusion-webui-forge"]
        .map(|program| home.join(program).join("models"))
        .into_iter()
        .filter(|dir| dir.is_dir())
        .collect()
}

/// The folder of added networks.
pub fn models_dir() -> Option<PathBuf> {
    data_dir().map(|dir| dir.join("models"))
}
