//! The rollout machine: pure. No Kubernetes, no clock, no async, no logging.

pub mod effect;
pub mod facts;
pub mod plan;
pub mod state;
