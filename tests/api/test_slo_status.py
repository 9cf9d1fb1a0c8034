"""``tutti slo status`` against the real API, and against what is not one."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from rich.console import Console

from api.cli import main
from api.cli_output import CliError, ExitCode
from api.slo_status import as_table, fetch


def _shown(told: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(as_table(told))
    return out.getvalue()


async def test_a_server_that_served_nobody_has_all_its_budgets(app: FastAPI) -> None:
    told = await fetch("http://localhost", None, httpx2.ASGITransport(app=app))
    lines = _shown(told).splitlines()
    assert len(lines) == 2 + 18
    ttfa = next(line for line in lines if line.startswith("ttfa pro"))
    assert ttfa.split() == ["ttfa", "pro", "99", "%", "–", "0", "–", "–", "–", "–"]


def _level(sli: str, good: int, bad: int, remaining: float | None) -> dict[str, Any]:
    window = {"good": good, "bad": bad, "attainment": good / (good + bad), "burn_rate": 14.4}
    budget = {"window": "30d", "allowed": 1.0, "spent": bad, "remaining": remaining}
    windows = dict.fromkeys(("1h", "6h", "3d", "30d"), window)
    return {"sli": sli, "tier": "pro", "objective": 0.999, "windows": windows, "error_budget": budget}


def test_the_most_endangered_come_first() -> None:
    levels = [_level("success", 99, 1, 0.5), _level("ttfa", 9, 1, -2.0), _level("validity", 9, 1, None)]
    lines = _shown({"as_of": "now", "service_levels": levels}).splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["ttfa", "success", "validity"]
    assert lines[0].split() == ["ttfa", "pro", "99.9", "%", "90", "%", "1", "-200", "%", "14.4×", "14.4×", "14.4×"]


@pytest.mark.parametrize("body", ["", "[]", '{"service_levels": [{}]}', '{"service_levels": 1}'])
async def test_something_else_answers(body: str) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, text=body))
    with pytest.raises(CliError, match="does not speak as Tutti does"):
        await fetch("http://localhost", None, transport)


async def test_a_refusal_says_where_the_key_comes_from() -> None:
    envelope = json.dumps({"error": {"code": "unauthenticated", "message": "Who are you?"}})
    transport = httpx2.MockTransport(lambda _: httpx2.Response(401, text=envelope))
    with pytest.raises(CliError, match=r"Who are you\? The key comes from TUTTI_API_KEY") as raised:
        await fetch("http://localhost", "key", transport)
    assert raised.value.code == "unauthenticated"


async def test_nobody_answers() -> None:
    with pytest.raises(CliError, match="cannot be reached") as raised:
        await fetch("http://127.0.0.1:1", None)
    assert raised.value.code == "unreachable"


def test_the_command_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slo", "status", "--url", "http://127.0.0.1:1", "--json"]) == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "unreachable"
    assert err.count("\n") == 1
