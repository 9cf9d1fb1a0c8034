"""Starts and stops the whole platform in one process tree on this machine, from ``serve_config.yaml``.

On a cluster the same file is given to ``serve deploy`` instead. Nothing here prints: whoever starts the
platform tells its user.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from deployments.local_ray import start_ray, stop_ray
from deployments.serve_config import DEFAULT_CONFIG, REPOSITORY, PlatformError, load_config
from models.errors import CheckpointError

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

__all__ = ["DEFAULT_CONFIG", "REPOSITORY", "Platform", "PlatformError", "load_config", "require_free", "start"]

POLL_S = 0.1  # Serve tells its state only when asked
START_TIMEOUT_S = 900.0  # a large checkpoint on a slow disk takes minutes


def start(
    config_path: Path | str = DEFAULT_CONFIG,
    port: int | None = None,
    host: str | None = None,
    *,
    num_cpus: int | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Platform:
    """Start Ray, Serve and the application; return when it answers.

    Args:
        config_path: the Serve config.
        port, host: where to listen; None takes the file's ``http_options``.
        num_cpus: cores that replicas may share; None lets Ray count them.
        timeout_s: how long loading the models may take.

    Raises:
        PlatformError, CheckpointError: nothing is left running.
    """
    config = load_config(config_path)
    platform = Platform(host or config.http_options.host, port or config.http_options.port)
    require_free(platform.host, platform.port)
    import ray

    if ray.is_initialized():
        raise PlatformError("Ray already runs in this process: the platform starts and stops its own")
    try:
        start_ray(num_cpus)
        platform.start_serve(config)
        platform.deploy(config, timeout_s)
    except BaseException:
        platform.stop(drain=False)
        raise
    return platform


def require_free(host: str, port: int) -> None:
    """Check that the port can be listened on; Serve itself would try again and again, in a log file.

    Raises:
        PlatformError: something else listens there.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PlatformError(
                f"cannot listen on {host}:{port} ({error.strerror}): stop what listens there, or choose another port"
            ) from error


@dataclass(frozen=True)
class Platform:
    """A platform that runs. Use it as a context manager, or call stop()."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where a client on this machine reaches it."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{self.port}"

    def start_serve(self, config: ServeDeploySchema) -> None:
        """Start Serve's controller and HTTP proxy on the Ray that runs."""
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        options: dict[str, Any] = {**config.http_options.model_dump(), "host": self.host, "port": self.port}
        serve.start(proxy_location=config.proxy_location, http_options=options, logging_config=config.logging_config)

    def deploy(self, config: ServeDeploySchema, timeout_s: float = START_TIMEOUT_S) -> None:
        """Bring the running platform to what the config says; streams in flight are finished by the old replicas.

        Raises:
            PlatformError: a deployment failed, with its own message; what ran before goes on.
        """
        client = _client()
        client.deploy_apps(config)
        _wait_running({application.name for application in config.applications}, timeout_s)
        client.wait_for_proxies_serving(wait_for_applications_running=True)

    def replicas(self) -> dict[str, int]:
        """Deployment → replicas that serve now."""
        return {
            name: int(deployment.replica_states.get("RUNNING", 0))
            for app in _applications().values()
            for name, deployment in app.deployments.items()
        }

    def stop(self, *, drain: bool = True) -> None:
        """Refuse new requests, let streams in flight end (up to their deployment's grace), then end every process.

        Args:
            drain: false ends streams in flight at once.
        """
        import ray

        if not ray.is_initialized():
            return
        try:
            if drain:
                _drain()
        finally:
            stop_ray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _client() -> Any:
    from ray.serve.context import _get_global_client

    return _get_global_client()  # raises RayServeException if Serve does not run


def _applications() -> dict[str, Any]:
    from ray import serve

    return dict(serve.status().applications)


def _wait_running(names: set[str], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        apps = _applications()
        states = {name: apps[name].status if name in apps else None for name in names}
        for name, state in states.items():
            if state in ("DEPLOY_FAILED", "UNHEALTHY") or (state == "DEPLOYING" and _is_hopeless(apps[name])):
                raise PlatformError(_failure(apps[name]))
        if all(state == "RUNNING" for state in states.values()):
            return
        time.sleep(POLL_S)
    raise PlatformError(f"the models were not ready after {timeout_s:g} s; see the logs in /tmp/ray/session_latest")


def _is_hopeless(app: Any) -> bool:
    """Serve tries a replica three times; a checkpoint that is wrong stays wrong."""
    return any(CheckpointError.__name__ in deployment.message for deployment in app.deployments.values())


def _failure(app: Any) -> str:
    """The error that started it, without the stacks of the processes it went through."""
    told = {name: deployment.message for name, deployment in app.deployments.items() if deployment.message}
    for name, message in {"the application": app.message, **told}.items():
        errors = re.findall(r"(?:\w+\.)*(\w+Error: .+)", message)
        if errors:
            return f"{name} does not start: {errors[-1].removeprefix(f'{CheckpointError.__name__}: ')}"
    return "; ".join(filter(None, [app.message, *told.values()]))


def _drain() -> None:
    """Delete the applications while the HTTP proxy still runs, and wait until their last stream has ended."""
    from ray.exceptions import RayError

    with suppress(RayError):  # the controller died: nothing is left to wait for
        _client().delete_apps(list(_applications()), blocking=False)
        while _applications():
            time.sleep(POLL_S)
