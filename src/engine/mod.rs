//! One task for each active rollout, and what the tools call.

pub mod control;
