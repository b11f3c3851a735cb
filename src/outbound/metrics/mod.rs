//! Metric providers, each a pair: the request for a query, and what its answer means.

pub mod builtin;
pub mod prometheus;
