"""``tutti bench serve`` on a platform where all but the music is real."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api.cli import main as tutti
from api.cli_output import CliError
from api.store.schema import accounts, generations
from benchmarks.api.paced import MODEL
from benchmarks.api.platform import Running
from benchmarks.serve_bench import main


def arguments(running: Running, *more: str, tiers: Sequence[str] = ("enterprise", "pro", "free")) -> list[str]:
    keys = [f"--api-key={tier}={running.tier_keys[tier][0]}" for tier in tiers]
    return ["--url", f"http://127.0.0.1:{running.port}", *keys, "--quiet", "--rate", "12", "--duration", "3", *more]


async def stored(running: Running) -> Counter[tuple[str, str, str]]:
    """What the server's own books say: how many generations of each tier, mode and state."""
    columns = (accounts.c.tier, generations.c.mode, generations.c.state)
    query = select(*columns).join(accounts, accounts.c.id == generations.c.account_id)
    async with running.db.read() as conn:
        return Counter((row[0], row[1], str(row[2])) for row in await conn.execute(query))


@pytest.fixture
def books(running: Running) -> Any:
    """How many generations there are more than at the start of the test."""
    before = asyncio.run(stored(running))
    return lambda: asyncio.run(stored(running)) - before


def test_a_mixed_load(running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str], books: Any) -> None:
    """Two processes, three tiers, three modes: every figure is there, and the counts are the server's own."""
    out, page = tmp_path / "a.json", tmp_path / "a.html"
    code = main(arguments(
        running, "--warm-up", "0", "--lengths", "1=1,2=1", "--processes", "2", "--models", MODEL, "--seed", "5",
        "--modes", "stream=0.6,async=0.2,wait=0.2", "--out", str(out), "--html", str(page),
    ))  # fmt: skip
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    whole: dict[str, Any] = json.loads(out.read_text())
    assert line == {name: value for name, value in whole.items() if name != "requests"}
    assert code == {"fail": 1, "invalid": 3}.get(line["verdict"], 0)

    assert line["errors"] == {}
    assert line["total"]["sent"] == line["schedule"]["requests"]
    assert line["total"]["completed"] == line["schedule"]["requests"]
    found = Counter[tuple[str, str, str]]()
    for group in line["groups"]:
        found[group["tier"], "stream" if group["mode"] == "stream" else "async", "succeeded"] += group["completed"]
    assert +found == books()
    assert line["total"]["audio_s_per_s"] == pytest.approx(line["schedule"]["offered_audio_s_per_s"], rel=1e-3)
    assert {each["sli"] for each in line["objectives"]} >= {"ttfa", "continuity", "success", "admission", "validity"}
    assert all(each["good"] == each["total"] for each in line["objectives"] if each["sli"] in {"success", "validity"})
    ttfa = line["total"]["ttfa_s"]
    assert 0 < ttfa["min"] <= ttfa["p50"] <= ttfa["p95"] <= ttfa["p99"] <= ttfa["max"]
    assert line["generator"]["send_lag_s"]["p50"] >= 0
    assert "<h2>Service levels</h2>" in page.read_text()


def test_clients_that_misbehave(running: Running, capsys: pytest.CaptureFixture[str], books: Any) -> None:
    """Each kind meets with what it should, and two calls under one key never make two generations."""
    main(arguments(
        running, "--lengths", "1=1,2=1", "--modes", "stream=0.7,async=0.3", "--seed", "2", "--warm-up", "0",
        "--faults", "slow=0.1,disconnect=0.3,storm=0.1,duplicate=0.4",
    ))  # fmt: skip
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    faults = line["faults"]
    assert set(faults) == {"slow", "disconnect", "storm", "duplicate"}
    assert faults["disconnect"]["cancelled"] == faults["disconnect"]["sent"]
    for kind in ("slow", "storm", "duplicate"):
        assert faults[kind]["completed"] == faults[kind]["sent"]
    assert line["broken_promises"] == []
    assert books().total() == line["schedule"]["requests"]


def test_a_search_on_the_platform(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(arguments(
        running, "--find-max", "--max-trials", "2", "--duration", "1", "--lengths", "1", "--target", "0.5",
    ))  # fmt: skip
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 1 <= len(line["search"]["trials"]) <= 2
    assert code in {0, 1, 3}  # a busy machine may be too slow for anything


# ------------------------------------------------------------------------------------------------- before it starts


def refusal(arguments: list[str]) -> str:
    with pytest.raises(CliError) as caught:
        main(arguments)
    return str(caught.value)


def test_nobody_is_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        assert "is tutti serve running there? --start starts one" in refusal(["--url", url])


def test_keys_are_tried_first(running: Running) -> None:
    url = f"http://127.0.0.1:{running.port}"
    key = running.tier_keys["pro"][0]
    assert "does not know this machine" in refusal(["--url", url])
    assert "the key for tier 'pro' is not good" in refusal(["--url", url, "--api-key", f"pro={key[:-1]}x"])
    assert "is of an account in tier 'pro'" in refusal(["--url", url, "--api-key", f"free={key}"])
    assert key not in refusal(["--url", url, "--api-key", f"free={key}"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", "huge"], "has no model 'huge': it serves paced"),
        (["--tiers", "pro=1,free=2"], "no key for tier 'free' (there are keys for pro)"),
        (["--lengths", "4000"], "may ask model 'paced' for 300 s at most, not 4000 s"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(running: Running, more: list[str], message: str) -> None:
    assert message in refusal(arguments(running, *more, tiers=["pro"]))


def test_a_platform_that_does_not_start_says_why(tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text("applications: [")
    told = refusal(["--start", "--config", str(config), "--quiet"])
    assert "the platform ended while it started" in told
    assert "broken.yaml" in told


def test_another_server_is_told_apart() -> None:
    """Somebody answers, but not as this API does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        writer.close()

    async def serve() -> str:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.to_thread(refusal, ["--url", f"http://127.0.0.1:{port}"])

    assert "does not answer as this API does (status 404)" in asyncio.run(serve())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--start", "--url", "http://x"], "leave --url and --api-key out"),
        (["--config", "x.yaml"], "give --start, too"),
        (["--trace", "x.csv", "--profile", "code"], "leave --profile code out"),
        (["--duration", "5", "--warm-up", "5"], "leaves nothing to look at"),
        (["--out", "/no/such/folder/a.json"], "there is no folder /no/such/folder"),
        (["--url", "localhost:8000"], "it begins with http:// or https://"),
    ],
)
def test_options_that_do_not_go_together(given: list[str], message: str) -> None:
    assert message in refusal(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--rate", "0"], "must be above 0"),
        (["--duration", "inf"], "must be finite"),
        (["--modes", "stream=1,loud=1"], "'loud' is none of stream, async, wait"),
        (["--faults", "slow=much"], "must be a number"),
        (["--api-key", "sk_live_secret"], "must be TIER=KEY"),
        (["--target", "1"], "must lie between 0 and 1"),
        (["--processes", "0"], "from 1 to 1000"),
    ],
)
def test_bad_arguments_are_refused(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert message in told
    assert "sk_live_secret" not in told


def test_the_command_line_says_errors_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert tutti(["bench", "serve", "--trace", "/no/such/trace.csv"]) == 1
    assert "No such file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tutti(["bench", "serve", "--help"])
    assert "exit codes" in capsys.readouterr().out
