//! What `enlarger serve` promises, proven on the real binary over real HTTP.

#[cfg(target_os = "linux")]
mod chaos;
mod clients;
mod comfyui;
mod crashes;
mod credentials;
mod deploy;
mod fidelity;
mod generative;
mod generator;
#[cfg(target_os = "linux")]
mod gpus;
mod harness;
mod hostile;
mod images;
#[cfg(target_os = "linux")]
mod machines;
mod page;
#[cfg(target_os = "linux")]
mod postgres;
mod queue;
mod router;
mod saving;
mod sdapi;
mod specification;
mod storage;
mod traces;
mod webhooks;
mod wire;

#[path = "../common/checkpoints.rs"]
mod checkpoints;

#[path = "../common/comfyui.rs"]
mod fake_comfyui;

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../enlarger-tasks/tests/cluster/mod.rs"]
mod cluster;

#[path = "../../../enlarger-blobs/tests/servers/moto.rs"]
mod moto;

#[path = "../../../enlarger-blobs/tests/servers/proxy.rs"]
mod proxy;
