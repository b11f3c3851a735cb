//! The in-memory Kubernetes API server of the embedded clusters: one instance per cluster.
//!
//! [`store::Store`] is the state and its rules, synchronous; [`server::ApiServer`] is the HTTP of it, behind a real
//! `kube::Client` in process and behind a listener for kubectl alike.

mod addresses;
mod columns;
mod crd;
mod defaults;
mod discovery;
mod events;
mod exposition;
pub mod faults;
mod fields;
mod gc;
mod kinds;
mod list;
mod metadata;
mod ownership;
mod patch;
mod patching;
mod present;
mod protobuf;
mod rest;
mod rights;
mod route;
mod scale;
mod schema;
mod selector;
pub mod server;
mod state;
pub mod status;
pub mod store;
mod strategic;
mod table;
mod typed;
mod validate;
mod watch;
mod write;

// What lives in an embedded cluster.
mod controllers;
mod counts;
mod crowd;
pub mod fleet;
pub mod gateway;
pub mod images;
pub mod listener;
pub mod load_tester;
pub mod mesh;
pub mod metrics;
#[cfg(feature = "embedded-metrics")]
mod promql;
mod proxy;
mod requests;
mod routes;
pub mod traffic;
