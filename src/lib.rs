//! `canary-mcp`: an MCP server that runs canary rollouts on many Kubernetes clusters, with one engine of its own.
//!
//! Calls go one way, and what comes back is return values and watches; a test holds the layers to it:
//!
//! ```text
//! http -> mcp -> engine -> decide (pure), build (pure), cluster, outbound -> api -> decide
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod api;
pub mod app;
pub mod build;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod decide;
pub mod engine;
pub mod http;
pub mod mcp;
pub mod outbound;
pub mod telemetry;
