//! What measurements share: test pictures, known damage, the way through an enlarger, and metrics.

pub mod damage;
pub mod document;
pub mod metric;
pub mod photos;
pub mod run;
