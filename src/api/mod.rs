//! Custom resources and wire types: pure.

pub mod claim;
pub mod crd;
pub mod dry_run;
pub mod gate;
pub mod metric_template;
pub mod names;
pub mod objects;
pub mod parse;
pub mod preview;
pub mod revision;
pub mod rights;
pub mod route;
pub mod status;
pub mod text;
pub mod time;
pub mod view;
