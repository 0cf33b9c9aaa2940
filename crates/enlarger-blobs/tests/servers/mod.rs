//! Object stores to test with.

pub mod moto;
pub mod proxy;
pub mod s3s;
