//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod cluster;
mod config;
mod embedded_api;
mod embedded_fleet;
mod engine;
mod http;
mod layers;
mod processes;
mod rollouts;
mod schemas;
mod support;
