"""One Ray of our own on this machine: its environment, its start, its end."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from contextlib import chdir, suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OBJECT_STORE_BYTES = 150 * 1024**2  # audio goes over gRPC, so the object store stays almost empty

# Ray and Serve read these when they are imported, here and in every process they start. The first ones every node of a
# cluster needs just so: the image sets them, since there Ray is started by others.
NODE_ENVIRONMENT = {
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(64 * 1024**2),  # bytes; 4 MiB is less than an upload
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deployments.proxy.middlewares",  # one envelope on every error
    "FORWARDED_ALLOW_IPS": "",  # uvicorn believes any loopback peer's X-Forwarded-For: TUTTI_TRUSTED_PROXIES decides
}
_ENVIRONMENT = {
    **NODE_ENVIRONMENT,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's own is 15, made for batch work: whatever else runs here would come first
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a late callback of a stopped platform must not start another Ray
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # a busy machine takes longer than 5 s to import Ray
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # a dead HTTP proxy is replaced in 4 s instead of 28 s
}
# Despite its name: 0 makes Ray use 127.0.0.1 as this node's address, so that its ports bind to loopback.
_LOOPBACK_NODE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def prepare_environment() -> None:
    """Set what Ray reads from the environment, much of it while it is imported; the operator's values win."""
    imported = "ray" in sys.modules
    # Driver and workers must agree on the node's address, so this one is given to both or to neither.
    for name, value in {**_ENVIRONMENT, **({} if imported else _LOOPBACK_NODE)}.items():
        os.environ.setdefault(name, value)
    if "RAY_AUTH_MODE" in os.environ:
        return
    # A replica's gRPC port listens on every interface and unpickles: only processes of this run may call it.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if imported:
        from ray._raylet import Config

        Config.initialize("")  # reads the environment again


def start_ray(num_cpus: int | None) -> None:
    """Start a Ray that ends with this process.

    Args:
        num_cpus: cores that replicas may share; None lets Ray count them.
    """
    import ray

    # Ray puts the directory it is started in first on its workers' path: it must be the project, wherever the
    # command was given, for another `models` or `api` there would be imported instead.
    with chdir(REPOSITORY):
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="serve",
        )


def stop_ray() -> None:
    """End every process of this Ray, and the threads of this process's Serve handles, which would call it again.

    ``serve.shutdown`` would do the latter too, but it also kills the controller, of which Ray complains on stderr.
    """
    import ray
    from ray.serve.context import _get_global_client, _set_global_client
    from ray.serve.exceptions import RayServeException

    with suppress(RayServeException):  # Serve had not been started yet
        _get_global_client().shutdown_cached_handles()
    _set_global_client(None)
    ray.shutdown()
