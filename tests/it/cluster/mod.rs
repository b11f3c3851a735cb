//! `Cluster` against the embedded API server: every write's preconditions, lost answers, the fence, watches and the Lease.

mod fence;
mod lease;
mod reads;
mod services;
mod sharing;
mod support;
mod watches;
mod writes;
