//! Kubernetes I/O and nothing else.

pub mod embedded;
