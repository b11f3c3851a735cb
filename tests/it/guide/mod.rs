//! The manifests of the guide that the product was conceived from: as they stand (`manifests/`, each with document and line), what each means
//! ([`meaning`]), and as they run (`examples/guide/`).

mod compatibility;
mod examples;
mod meaning;
mod meant;
mod runs;
mod timelines;
