//! Objects for the builders' tests.
