//! Field ownership and server-side apply: who owns which field of an object, and what follows from that.
//!
//! Pure functions over JSON. [`set`] is a set of paths, [`shape`] says which parts of an object have owners of their own,
//! [`walk`], [`fit`] and [`merge`] go over objects by their shape, [`managers`] reads and writes `metadata.managedFields`, [`apply`]
//! puts it together.

pub(super) mod apply;
pub(super) mod fit;
pub(super) mod managers;
mod merge;
pub(super) mod set;
pub(super) mod shape;
mod walk;
