//! Golden tests of the builders, on the demo's objects.

mod apart;
mod check;
mod fixtures;
mod istio;
mod rivals;
mod services;
mod workload;
