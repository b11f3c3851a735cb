//! The next weight of each strategy.

pub mod canary;
