// Drives the server with an official TypeScript client, told by its standard input: one JSON object a line,
//   {"list": true} | {"call": ID, "tool": NAME, "arguments": {...}} | {"abort": ID}
// and says what comes, as it comes: {"connected"}, {"tools"}, {"progress", "of"}, {"result", "of"}, {"error", "of"}. Usage: drive.mjs URL MODE,
// MODE being `modern` or `legacy` of @modelcontextprotocol/client, or `v1`, of @modelcontextprotocol/sdk.
import { createInterface } from "node:readline";

const [url, mode] = process.argv.slice(2);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const me = { name: "driver", version: "1" };

async function connect() {
  if (mode === "v1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(me);
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    return [client, transport.protocolVersion, (params, options) => client.callTool(params, undefined, options)];
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const client = new Client(me, { versionNegotiation: { mode: mode === "modern" ? "auto" : "legacy" } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return [client, client.getNegotiatedProtocolVersion(), (params, options) => client.callTool(params, options)];
}

const [client, version, callTool] = await connect();
say({ connected: version, server: client.getServerVersion().name, instructions: client.getInstructions() });

const running = new Map();
async function call(id, name, args) {
  const abort = new AbortController();
  running.set(id, abort);
  const onprogress = (progress) => say({ of: id, progress });
  // The default of these clients is 60 s, whatever progress they hear of; a rollout takes as long as it takes.
  const options = { onprogress, signal: abort.signal, timeout: 600_000 };
  try {
    say({ of: id, result: await callTool({ name, arguments: args }, options) });
  } catch (error) {
    say({ of: id, error: String(error) });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const wish = JSON.parse(line);
  if (wish.list) say({ tools: (await client.listTools()).tools });
  else if (wish.abort) running.get(wish.abort).abort("enough seen");
  else call(wish.call, wish.tool, wish.arguments);
}
await client.close();
process.exit(0);
