//! The listener and the protocol, on the wire: a real loopback socket, real time, and waits for events only.

mod auth;
pub(crate) mod fixture;
mod product;
mod stack;
