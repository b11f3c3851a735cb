//! Kubernetes I/O and nothing else.

pub mod clock;
pub mod embedded;
