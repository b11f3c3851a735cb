//! What people install, judged by the programs that read it: helm, promtool, a genuine control plane, and our own engine.

mod mcp_server_chart;
