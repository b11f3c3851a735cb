//! Tests of the machine: a table of every transition, and the invariants over random worlds.

#![expect(
    clippy::too_many_lines,
    clippy::large_stack_arrays,
    reason = "a table is as long as its rows"
)]

mod after_copy;
mod at_rest;
mod before_copy;
mod deletion;
mod fixtures;
mod forecast;
mod invariants;
mod liveness;
mod rehearsals;
mod repeated;
mod requests;
mod rules;
mod share;
mod still;
mod strategies;
mod verdicts;
mod world;
