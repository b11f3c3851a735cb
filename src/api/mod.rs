//! Custom resources and wire types: pure.

pub mod names;
pub mod objects;
pub mod revision;
pub mod time;
pub mod view;
