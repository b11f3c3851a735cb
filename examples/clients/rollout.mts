// Rolls an image out with the official TypeScript client, and prints what happens while it happens.
//
//   npm install @modelcontextprotocol/client@2.4.0
//   node rollout.mts CLUSTER NAMESPACE NAME IMAGE       (Node.js 22.18 or newer runs TypeScript as it is)
//
// CANARY_MCP_URL says where the server is.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [cluster, namespace, name, image] = process.argv.slice(2);
const url = new URL(process.env.CANARY_MCP_URL ?? "http://127.0.0.1:8080/mcp");

// `auto` asks for the protocol of 2026-07-28 first; without it this client speaks the one of 2025-11-25, which works as well.
const client = new Client({ name: "rollout-example", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
await client.connect(new StreamableHTTPClientTransport(url));

const result = await client.callTool(
  { name: "start_canary", arguments: { cluster, namespace, name, image, wait_seconds: 3600 } },
  {
    onprogress: ({ message }) => console.log(message),
    // The client gives up after 60 s unless it is told to wait; the rollout would go on, and get_status follow it.
    timeout: 3_700_000,
  },
);
await client.close();

type Told = { summary: string; next: string; phase?: string };
const told = result.structuredContent as Told | undefined;
if (!told) {
  // An argument that cannot be, a cluster that there is not: the text says which and what to do.
  const [first] = result.content;
  console.error(first?.type === "text" ? first.text : result);
  process.exit(2);
}
console.log(`${told.summary}\nnext: ${told.next}`);
process.exit(told.phase === "Succeeded" ? 0 : 1);
