//! All I/O that is not Kubernetes: where an address leads, the one HTTP client, templates, webhooks, and metric providers as pairs of
//! request and parse.
//!
//! Routes into a cluster and credentials arrive as values; nothing here knows a cluster.

pub mod address;
pub mod hooks;
pub mod http;
pub mod metrics;
pub mod template;
