//! The binary: parse, telemetry, run.

fn main() {}
