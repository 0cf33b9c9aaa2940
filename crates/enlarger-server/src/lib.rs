//! The HTTP service. Nothing is served yet: see `wip/README.md`.
