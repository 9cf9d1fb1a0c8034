"""One Ray cluster for the whole session, with a random checkpoint behind the real engine, Serve and HTTP."""

from __future__ import annotations

import asyncio
import copy
import logging
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from api.cache.embedded import EmbeddedValkey
from api.store.database import migrate
from deployments import platform as platform_module
from deployments.platform import Platform
from tests.deployments.probe import Probe
from tests.factories import make_checkpoint

STREAM = "/api/v1/generate/stream"
PATIENCE_S = 180.0  # a stream is silent while its replica is replaced, and another one loads on a busy machine


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ConfigWriter:
    """Writes variations of the repository's own serve_config.yaml, with a random checkpoint in it."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._count = 0

    def __call__(
        self, *, checkpoint: Path | None = None, engine: dict[str, Any] | None = None, replicas: int = 1
    ) -> Path:
        config = copy.deepcopy(yaml.safe_load(platform_module.DEFAULT_CONFIG.read_text()))
        models = config["applications"][0]["args"]["models"]
        models["tiny-melody"]["enabled"] = False
        tiny = models["tiny"]
        tiny["checkpoint"] = str(checkpoint or self._checkpoint)
        # Slower than it is shipped: streams that begin together meet in the engine, on a busy machine, too.
        tiny["engine"].update({"weights": "fp32", "max_rows": 16, **(engine or {})})
        deployment = tiny["deployment"]
        deployment["max_ongoing_requests"] = 10
        deployment["autoscaling_config"].update(min_replicas=replicas, max_replicas=replicas)
        deployment["graceful_shutdown_wait_loop_s"] = 0.1
        self._count += 1
        path = self._folder / f"serve-{self._count}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def write_config(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> ConfigWriter:
    return ConfigWriter(tmp_path_factory.mktemp("config"), checkpoint)


@pytest.fixture(scope="session")
def platform(write_config: ConfigWriter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With a data folder and a Valkey of this session's own, as `tutti serve` prepares them.

    Ray's processes inherit where they are when it starts; the other tests of this run must not see it.
    """
    folder = tmp_path_factory.mktemp("data")
    asyncio.run(migrate(f"sqlite+aiosqlite:///{folder / 'tutti.db'}"))
    with EmbeddedValkey() as valkey:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TUTTI_DATA_DIR", str(folder))
            environment.setenv("TUTTI_REDIS_URL", valkey.url)
            environment.setenv("TUTTI_TRACING_EXPORTER", "console")
            started = platform_module.start(write_config(), free_port(), num_cpus=2)
        with started as running:
            yield running


@pytest.fixture
def http(platform: Platform) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=platform.url, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


@pytest.fixture
def probe(platform: Platform) -> Probe:
    return Probe()


@pytest.fixture
def standard_loggers() -> Iterator[None]:
    """What is attached to Python's loggers meanwhile is taken off again."""
    loggers = [logging.getLogger(name) for name in ("api", "deployments", "models", "tutti")]
    before = [list(logger.handlers) for logger in loggers]
    yield
    for logger, handlers in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def broken_checkpoint(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """Its files are whole, but a tensor has another name: only who loads it can see that."""
    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("broken") / "checkpoint"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"decoder.', b'"decader.', 1))
    return folder
