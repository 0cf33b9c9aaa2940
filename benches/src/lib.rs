//! What measurements share: test pictures, known damage, and metrics.

pub mod damage;
pub mod metric;
pub mod photos;
