"""One process of the platform that is measured: a gateway behind uvicorn, or a worker. Settings come from TUTTI_*.

python -m benchmarks.api.serve gateway --fd 5
python -m benchmarks.api.serve worker --speed 10
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket

import uvicorn

from api.app import create_app
from api.worker import create_worker
from benchmarks.api.paced import MODEL, SPEC, PacedGenerator


def gateway(fd: int) -> None:
    """Serve the real application on a socket that listens already, until SIGTERM."""
    app = create_app({MODEL: PacedGenerator(1)}, {MODEL: SPEC})
    config = uvicorn.Config(app, log_config=None, access_log=False, backlog=4096, timeout_graceful_shutdown=5)
    with socket.socket(fileno=fd) as listening:
        uvicorn.Server(config).run(sockets=[listening])


async def worker(speed: float) -> None:
    """Work until SIGTERM."""
    process = create_worker({MODEL: PacedGenerator(speed)}, {MODEL: SPEC})
    running = asyncio.create_task(process.run())
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    stopping = asyncio.create_task(asked.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await process.stop()
    await running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("gateway").add_argument("--fd", type=int, required=True)
    parts.add_parser("worker").add_argument("--speed", type=float, required=True)
    arguments = parser.parse_args()
    if arguments.part == "gateway":
        gateway(arguments.fd)
    else:
        asyncio.run(worker(arguments.speed))


if __name__ == "__main__":
    main()
