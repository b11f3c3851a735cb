"""Drives the server with an official Python client; what it reads and says is that of drive.mjs. Usage: drive.py URL MODE, MODE being
`modern` or `legacy` of mcp 2, or `v1`, of mcp 1."""

import asyncio
import contextlib
import json
import sys
from datetime import timedelta

PATIENCE = 600
ME = {"name": "driver", "version": "1"}


def say(what):
    print(json.dumps(what), flush=True)


@contextlib.asynccontextmanager
async def connected(url, mode):
    """Gives what lists the tools and what calls one."""
    if mode == "v1":
        from mcp import ClientSession
        from mcp.client.streamable_http import streamablehttp_client
        from mcp.types import Implementation

        async with streamablehttp_client(url, sse_read_timeout=PATIENCE) as (reads, writes, _):
            async with ClientSession(reads, writes, client_info=Implementation(**ME)) as session:
                hello = await session.initialize()
                say({"connected": hello.protocolVersion, "server": hello.serverInfo.name, "instructions": hello.instructions})

                def call(name, arguments, heard):
                    return session.call_tool(name, arguments, timedelta(seconds=PATIENCE), heard)

                yield session.list_tools, call
        return
    from mcp import Client, Implementation

    mode = "auto" if mode == "modern" else mode
    async with Client(url, mode=mode, client_info=Implementation(**ME)) as client:
        say({"connected": client.protocol_version, "server": client.server_info.name, "instructions": client.instructions})

        def call(name, arguments, heard):
            return client.call_tool(name, arguments, PATIENCE, heard)

        yield client.list_tools, call


def as_sent(value):
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


async def carry_out(wish, call):
    number = wish["call"]

    async def heard(progress, total, message):
        say({"of": number, "progress": {"progress": progress, "message": message}})

    try:
        result = await call(wish["tool"], wish["arguments"], heard)
        say({"of": number, "result": as_sent(result)})
    except asyncio.CancelledError:
        say({"of": number, "error": "cancelled"})
    except Exception as error:
        say({"of": number, "error": f"{type(error).__name__}: {error}"})


async def main(url, mode):
    async with connected(url, mode) as (list_tools, call):
        running = {}
        while line := await asyncio.to_thread(sys.stdin.readline):
            wish = json.loads(line)
            if "list" in wish:
                say({"tools": as_sent(await list_tools())["tools"]})
            elif "abort" in wish:
                running[wish["abort"]].cancel()
            else:
                running[wish["call"]] = asyncio.create_task(carry_out(wish, call))


asyncio.run(main(*sys.argv[1:]))
