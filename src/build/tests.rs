//! Golden tests of the builders, on the demo's objects.

mod apart;
mod check;
mod fixtures;
mod gateway_api;
mod istio;
mod istio_strategies;
mod kubernetes;
mod rivals;
mod route_rules;
mod services;
mod workload;
