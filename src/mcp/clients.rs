//! What to paste into the configuration of an MCP client.

/// Ready-to-paste configuration for the endpoint at `url` (as in `http://127.0.0.1:8080/mcp`): Claude Code, Cursor, VS Code and Claude
/// Desktop, whose configuration file knows no HTTP servers and so goes through the `mcp-remote` bridge. With `tokens` each sends the one in
/// the environment variable `CANARY_MCP_TOKEN`; VS Code asks for it.
#[must_use]
pub fn client_config(url: &str, tokens: bool) -> String {
    // The bridge takes http without asking from these two names only.
    let near = ["http://127.0.0.1:", "http://localhost:"]
        .iter()
        .any(|prefix| url.starts_with(prefix));
    let plain = if url.starts_with("http://") && !near {
        r#","--allow-http""#
    } else {
        ""
    };
    if tokens {
        return format!(
            r#"Claude Code
  claude mcp add --transport http canary-mcp {url} --header "Authorization: Bearer $CANARY_MCP_TOKEN"

Cursor (~/.cursor/mcp.json)
  {{"mcpServers":{{"canary-mcp":{{"url":"{url}","headers":{{"Authorization":"Bearer ${{env:CANARY_MCP_TOKEN}}"}}}}}}}}

VS Code (.vscode/mcp.json)
  {{"servers":{{"canary-mcp":{{"type":"http","url":"{url}","headers":{{"Authorization":"Bearer ${{input:token}}"}}}}}},"inputs":[{{"type":"promptString","id":"token","description":"canary-mcp token","password":true}}]}}

Claude Desktop (claude_desktop_config.json; needs Node.js)
  {{"mcpServers":{{"canary-mcp":{{"command":"npx","args":["-y","mcp-remote","{url}"{plain},"--header","Authorization:Bearer ${{CANARY_MCP_TOKEN}}"],"env":{{"CANARY_MCP_TOKEN":"..."}}}}}}}}
"#
        );
    }
    format!(
        r#"Claude Code
  claude mcp add --transport http canary-mcp {url}

Cursor (~/.cursor/mcp.json)
  {{"mcpServers":{{"canary-mcp":{{"url":"{url}"}}}}}}

VS Code (.vscode/mcp.json)
  {{"servers":{{"canary-mcp":{{"type":"http","url":"{url}"}}}}}}

Claude Desktop (claude_desktop_config.json; needs Node.js)
  {{"mcpServers":{{"canary-mcp":{{"command":"npx","args":["-y","mcp-remote","{url}"{plain}]}}}}}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::client_config;

    #[test]
    fn each_client_gets_what_it_reads() {
        assert_eq!(
            client_config("http://127.0.0.1:8080/mcp", false),
            r#"Claude Code
  claude mcp add --transport http canary-mcp http://127.0.0.1:8080/mcp

Cursor (~/.cursor/mcp.json)
  {"mcpServers":{"canary-mcp":{"url":"http://127.0.0.1:8080/mcp"}}}

VS Code (.vscode/mcp.json)
  {"servers":{"canary-mcp":{"type":"http","url":"http://127.0.0.1:8080/mcp"}}}

Claude Desktop (claude_desktop_config.json; needs Node.js)
  {"mcpServers":{"canary-mcp":{"command":"npx","args":["-y","mcp-remote","http://127.0.0.1:8080/mcp"]}}}
"#
        );
    }

    #[test]
    fn the_bridge_is_told_of_plain_http_elsewhere() {
        for (url, last) in [
            (
                "http://10.0.0.7:8080/mcp",
                r#""http://10.0.0.7:8080/mcp","--allow-http"]}}}"#,
            ),
            (
                "https://mcp.example.com/mcp",
                r#""https://mcp.example.com/mcp"]}}}"#,
            ),
        ] {
            let text = client_config(url, false);
            assert!(text.trim_end().ends_with(last), "{text}");
        }
    }
}
