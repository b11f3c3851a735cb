//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod cluster;
mod embedded_api;
