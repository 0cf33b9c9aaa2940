//! What `enlarger serve` promises, proven on the real binary over real HTTP.

mod clients;
mod comfyui;
mod crashes;
mod credentials;
mod generative;
mod generator;
mod harness;
mod hostile;
mod page;
mod queue;
mod router;
mod saving;
mod specification;
mod webhooks;
mod wire;

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/checkpoints.rs"]
mod checkpoints;

#[path = "../common/comfyui.rs"]
mod fake_comfyui;
