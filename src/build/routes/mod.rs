//! How traffic is split: one module for each kind of route.

pub mod istio;
