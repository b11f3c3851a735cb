//! Custom resources and wire types: pure.

pub mod names;
pub mod objects;
pub mod view;
