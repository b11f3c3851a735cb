#!/usr/bin/env bash
# Calls one tool with nothing but curl, and prints its progress as it comes, then the summary: curl.sh TOOL [ARGUMENTS]
#   examples/clients/curl.sh list_clusters
#   examples/clients/curl.sh get_status '{"cluster":"staging"}'
# CANARY_MCP_URL says where the server is. RAW=1 prints the whole answer as it is on the wire.
set -euo pipefail
url=${CANARY_MCP_URL:-http://127.0.0.1:8080/mcp}
tool=$1
arguments=${2:-"{}"}

call() {
  curl -sSN "$url" \
    -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' \
    -H 'mcp-protocol-version: 2026-07-28' -H 'mcp-method: tools/call' -H "mcp-name: $tool" \
    -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"'"$tool"'","arguments":'"$arguments"',"_meta":{
      "progressToken":1,
      "io.modelcontextprotocol/protocolVersion":"2026-07-28",
      "io.modelcontextprotocol/clientCapabilities":{},
      "io.modelcontextprotocol/clientInfo":{"name":"curl","version":"1"}}}}'
}

# One JSON string with its escapes.
text='"\(\([^"\\]\|\\.\)*\)"'
# Of a progress message its text; of a result its summary, the last of its fields but the weight; of an error its text.
readable() {
  sed -un \
    -e '/"method":"notifications\/progress"/{s/.*"message":'"$text"'.*/\1/p;d;}' \
    -e '/"structuredContent"/{s/.*"structuredContent":.*"summary":'"$text"'.*/\1/p;d;}' \
    -e '/"isError":true/{s/.*"text":'"$text"'.*/error: \1/p;d;}' \
    -e '/"error":{/{s/.*"message":'"$text"'.*/error: \1/p;d;}' \
    -e '/^[A-Z]/p' |
    sed -u 's/\\"/"/g'
}

if [ -n "${RAW:-}" ]; then call; else call | readable; fi
