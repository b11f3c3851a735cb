//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]
mod embedded_api;
mod embedded_fleet;
