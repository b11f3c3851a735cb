//! The binary: everything is in [`canary_mcp::app`].

use std::process::ExitCode;

fn main() -> ExitCode {
    canary_mcp::app::run()
}
