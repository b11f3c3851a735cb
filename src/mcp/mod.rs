//! The MCP server: five tools over [`crate::engine::control::Control`], one file for each.
//!
//! A tool validates, asks the control, follows what it answers and shapes the result. It holds no state: any replica answers any call.

pub mod clients;
pub mod principal;
pub mod schemas;

mod arguments;
mod error;
mod guard;
mod progress;
mod server;
mod tools;
mod words;

pub use guard::guarded;
pub use server::McpServer;
