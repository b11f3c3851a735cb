//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod after_copy;
mod apart;
mod cluster;
mod config;
mod control_plane;
mod crashes;
mod deploy;
mod dry_run;
mod embedded_api;
mod embedded_fleet;
mod engine;
mod genuine;
mod handovers;
mod http;
mod interventions;
mod kubectl;
mod layers;
mod load_tester;
mod many_clusters;
mod metrics_endpoint;
mod outcomes;
mod processes;
mod prometheus;
mod protocol;
mod quiet;
mod rights;
mod rivals;
mod rollouts;
mod schemas;
mod sources;
mod support;
mod takeovers;
mod tools;
mod writing;
