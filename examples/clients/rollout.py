"""Rolls an image out with the official Python client, and prints what happens while it happens.

    pip install mcp==2.3.0
    python3 rollout.py CLUSTER NAMESPACE NAME IMAGE

CANARY_MCP_URL says where the server is.
"""

import asyncio
import os
import sys

from mcp import Client


async def heard(progress: float, total: float | None, message: str | None) -> None:
    print(message, flush=True)


async def main(cluster: str, namespace: str, name: str, image: str) -> int:
    url = os.environ.get("CANARY_MCP_URL", "http://127.0.0.1:8080/mcp")
    arguments = {"cluster": cluster, "namespace": namespace, "name": name, "image": image, "wait_seconds": 3600}
    async with Client(url) as client:
        result = await client.call_tool("start_canary", arguments, read_timeout_seconds=3700, progress_callback=heard)
    told = result.structured_content
    if told is None:
        # An argument that cannot be, a cluster that there is not: the text says which and what to do.
        print(result.content[0].text, file=sys.stderr)
        return 2
    print(told["summary"], f"next: {told['next']}", sep="\n")
    return 0 if told.get("phase") == "Succeeded" else 1


sys.exit(asyncio.run(main(*sys.argv[1:])))
