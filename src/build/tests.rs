//! Golden tests of the builders, on the demo's objects.

mod check;
mod fixtures;
mod istio;
mod services;
mod workload;
