//! What measurements share: test pictures, known damage, running an enlarger, and metrics.

pub mod damage;
pub mod document;
pub mod metric;
pub mod photos;
pub mod run;
