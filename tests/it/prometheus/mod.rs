//! Real Prometheus judges the one of the embedded clusters, and what the engine makes of its answers.

mod asked;
mod live;
mod queries;
pub(crate) mod real;
mod replay;
mod same;
