//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod config;
mod layers;
mod rollouts;
mod support;
mod http;
mod schemas;
mod embedded_fleet;
mod cluster;
mod embedded_api;
