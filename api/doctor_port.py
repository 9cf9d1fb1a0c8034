"""Is the port free, and if not, is it Tutti that listens there? Only the standard library is needed to tell."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException

from api.doctor import Finding, Status

VERSION_PATH = "/version"
_PATIENCE_S = 3.0
_MAX_BYTES = 4096


def check_port(host: str, port: int, patience_s: float = _PATIENCE_S) -> Finding:
    """Whoever looks beside a running server is told so, not sent to stop it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            version = _tutti_version(host, port, patience_s)
            if version is not None:
                return Finding("port", Status.OK, f"{host}:{port}: Tutti {version} is running there")
            mend = "stop what listens there, or choose another: tutti serve --port"
            return Finding("port", Status.FAIL, f"{host}:{port}: {error.strerror or error}", mend)
    return Finding("port", Status.OK, f"{host}:{port} is free")


def _tutti_version(host: str, port: int, patience_s: float) -> str | None:
    """What the listener says of itself; None: it is not Tutti, or does not answer."""
    connection = HTTPConnection(host, port, timeout=patience_s)
    try:
        connection.request("GET", VERSION_PATH)
        told = json.loads(connection.getresponse().read(_MAX_BYTES))
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return str(told.get("version")) if isinstance(told, dict) and told.get("name") == "tutti" else None
