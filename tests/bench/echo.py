"""The baseline: a bare Starlette JSON echo on the uvicorn that serves the gateway, one worker, no access log."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

HOST: Final = "127.0.0.1"


async def echo(request: Request) -> Response:
    """Answer with what was sent: the JSON body, or the path of a GET."""
    if request.method == "POST":
        return JSONResponse(await request.json())
    return JSONResponse(request.path_params)


def main() -> None:
    """Serve on a free port of loopback until the process is ended; the first line says where."""
    listener = socket.create_server((HOST, 0), backlog=2048)
    app = Starlette(routes=[Route("/v2/requests/{id}/status", echo), Route("/v2/{model}", echo, methods=["POST"])])
    server = uvicorn.Server(
        uvicorn.Config(
            app, loop="uvloop", http="httptools", ws="none", lifespan="off", access_log=False, log_level="critical"
        )
    )
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    sys.stdout.write(json.dumps({"event": "started", "url": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
