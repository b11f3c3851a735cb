//! Tests of the machine: a table of every transition, and the invariants over random worlds.

mod after_copy;
mod before_copy;
mod fixtures;
mod invariants;
mod liveness;
mod requests;
mod verdicts;
mod world;
