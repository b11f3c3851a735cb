//! The binary as processes of its own: real sockets, real signals, real time. The tests wait for what the processes say and for
//! watches of the clusters, and assert sequences, never times.

mod applications;
pub(crate) mod child;
mod command_line;
mod flaggers_crd;
mod kills;
pub(crate) mod kubernetes;
mod read_only;
mod rollout;
mod sdk_clients;
mod stopping;
mod tokens;
mod tour;
mod transcripts;
