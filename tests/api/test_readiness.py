"""Ready or not: each dependency is named, asked seldom, and logged when that changes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from api import readiness
from api.app import create_app
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.foundation import Foundation
from api.settings import Settings
from models.errors import EngineDeadError
from tests.api.conftest import MakePlatform
from tests.api.fakes import FakeGenerator, spec
from tests.api.limits.rows import Hands, add_worker
from tests.api.platform import get


async def test_ready_names_each_dependency(make_platform: MakePlatform) -> None:
    app = (await make_platform(FakeGenerator(), FakeGenerator())).app
    answer = await get(app, "/health/ready")
    found = {one["name"]: (one["ready"], one["required"]) for one in answer.json()["dependencies"]}
    workers = found.pop("workers")  # it signs on in its own time
    assert workers[1] is False
    assert (answer.status_code, found) == (
        200,
        {
            "model:tiny": (True, True),
            "model:small": (True, True),
            "database": (True, True),
            "storage": (True, True),
            "cache": (True, False),
        },
    )


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("its replicas are starting", "its replicas are starting"),
        (False, "not ready"),
        (EngineDeadError("the engine stopped"), "the engine stopped"),
    ],
)
async def test_not_ready_is_a_503_that_says_why(
    make_platform: MakePlatform, says: bool | str | Exception, reason: str
) -> None:
    app = (await make_platform(FakeGenerator(), FakeGenerator(ready_answer=says))).app
    answer = await get(app, "/health/ready")
    assert (answer.status_code, answer.headers["x-error-code"]) == (503, "not_ready")
    assert "retry-after" in answer.headers
    found = answer.json()["error"]["details"]["dependencies"]
    assert found[0] == {"name": "model:tiny", "ready": True, "required": True, "reason": None}
    assert found[1] == {"name": "model:small", "ready": False, "required": True, "reason": reason}
    assert (await get(app, "/health")).json() == {"status": "ok"}
    health = (await get(app, "/api/v1/models/small")).json()["health"]
    assert health == {"ready": False, "reason": reason, "replicas": 0}


async def test_a_backend_that_does_not_answer_is_not_ready(make_platform: MakePlatform) -> None:
    class Silent(FakeGenerator):
        async def ready(self) -> bool | str:
            await asyncio.Event().wait()
            return True

    app = (await make_platform(Silent(), ready_timeout_s=0.01)).app
    answer = await get(app, "/health/ready")
    assert answer.json()["error"]["details"]["dependencies"][0]["reason"] == "no answer within 0.01 s"


async def test_without_the_cache_it_is_ready_and_without_the_database_it_is_not(
    sqlite_database_url: str, tmp_path: Path, log: structlog.testing.LogCapture
) -> None:
    """Reasons with addresses in them go to the log and to nobody else."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = f"redis://127.0.0.1:{unused.getsockname()[1]}"
    wrapper = structlog.make_filtering_bound_logger(0)
    logger: Any = structlog.wrap_logger(None, processors=[log], wrapper_class=wrapper)
    missing = f"sqlite+aiosqlite:///{tmp_path}/none/tutti.db"
    for url, status, wrong in ((sqlite_database_url, 200, {"cache", "workers"}), (missing, 503, {"database"})):
        settings = Settings(database_url=url, redis_url=nobody, data_dir=tmp_path)
        app = create_app({"tiny": FakeGenerator()}, {"tiny": spec()}, settings, log=logger.bind())
        async with app.router.lifespan_context(app):
            answer = await get(app, "/health/ready")
        body = answer.json()
        found = body["dependencies"] if status == 200 else body["error"]["details"]["dependencies"]
        assert answer.status_code == status
        assert wrong <= {one["name"] for one in found if not one["ready"]}
        assert nobody.rpartition(":")[2] not in answer.text
    told = {entry["dependency"]: entry["reason"] for entry in log.entries if entry["event"] == "not_ready"}
    assert "TUTTI_REDIS_URL" in told["cache"]


async def test_workers_count_from_their_first_sign_of_life(
    sqlite_database_url: str,
    valkey: EmbeddedValkey,
    tmp_path: Path,
    log: structlog.testing.LogCapture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that has made no track yet cannot say how fast it is, and is there all the same."""
    monkeypatch.setattr(readiness, "KEPT_S", -1.0)
    logger: Any = structlog.wrap_logger(None, processors=[log], wrapper_class=structlog.make_filtering_bound_logger(0))
    settings = Settings(database_url=sqlite_database_url, redis_url=valkey.url, data_dir=tmp_path)
    clock = Hands()
    app = create_app(
        {"tiny": FakeGenerator()}, {"tiny": spec()}, base=Foundation.build(settings, clock), log=logger.bind()
    )
    database = app.state.services.db
    answers: list[tuple[bool, str | None]] = []

    async def ask() -> None:
        found = (await get(app, "/health/ready")).json()["dependencies"]
        (one,) = (dependency for dependency in found if dependency["name"] == "workers")
        assert one["required"] is False
        answers.append((one["ready"], one["reason"]))

    async with app.router.lifespan_context(app):
        await ask()
        async with database.begin() as conn:
            await add_worker(conn, {"tiny": {"slots": 1, "steps_per_s": None}})
        await ask()
        clock.move(11)
        await ask()
        clock.move(readiness.START_S)
        await ask()
    assert answers == [(False, readiness.NOT_YET), (True, None), (False, readiness.NOT_YET), (False, readiness.NONE)]
    told = [(entry["event"], entry["reason"]) for entry in log.entries if entry.get("dependency") == "workers"]
    assert told == [("not_ready", readiness.NONE)]


async def test_what_is_missing_is_logged_once_and_once_more_when_it_is_back(
    make_platform: MakePlatform, log: structlog.testing.LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "KEPT_S", -1.0)
    app = (await make_platform(FakeGenerator())).app
    found: bool | str = "redis://:password@10.0.0.1 does not answer"

    async def check(_cache: object) -> bool | str:
        return found

    monkeypatch.setattr(Cache, "check", check)
    for _ in range(3):
        assert "10.0.0.1" not in (await get(app, "/health/ready")).text
    found = True
    await get(app, "/health/ready")
    told = [entry["event"] for entry in log.entries if entry.get("dependency") == "cache"]
    assert told == ["not_ready", "ready_again"]


def test_the_schemas_history_is_loaded_before_the_first_question_and_beside_the_event_loop(tmp_path: Path) -> None:
    """In a fresh process: Alembic takes most of a second to import."""
    script = f"""
import asyncio, sys, threading
from api.app import create_app
from api.settings import Settings
from tests.api.fakes import FakeGenerator, spec

class Watching:
    def find_spec(self, name, path=None, target=None):
        if name == "alembic":
            print(threading.current_thread() is threading.main_thread())

async def main():
    settings = Settings(redis_url="redis://127.0.0.1", data_dir={str(tmp_path)!r})
    app = create_app({{"tiny": FakeGenerator()}}, {{"tiny": spec()}}, settings)
    assert "alembic" not in sys.modules
    sys.meta_path.insert(0, Watching())
    async with app.router.lifespan_context(app):
        assert "alembic" in sys.modules

asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.split() == ["False"]


async def test_dependencies_are_asked_once_a_second_however_many_ask(make_platform: MakePlatform) -> None:
    asked = 0

    class Counting(FakeGenerator):
        async def ready(self) -> bool | str:
            nonlocal asked
            asked += 1
            return True

    app = (await make_platform(Counting())).app
    await asyncio.gather(*(get(app, path) for path in ["/health/ready", "/api/v1/models"] * 10))
    assert asked < 20
