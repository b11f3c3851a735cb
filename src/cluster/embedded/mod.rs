//! The embedded clusters.

pub mod images;
pub mod metrics;
#[cfg(feature = "embedded-metrics")]
mod promql;
