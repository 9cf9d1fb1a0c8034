"""``tutti generate --url`` when connections break and servers refuse: it comes back, for so long and not longer."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path

import pytest

from api import cli_retry
from api.cli_client import ServerMaker
from api.cli_order import Order
from api.cli_output import CliError, ExitCode
from api.cli_retry import Patience, Problem
from api.settings import Settings
from models.types import GenerationRequest, SamplingParams
from tests.canned import (
    ID,
    KEY,
    WAV,
    accepting,
    answering,
    generate,
    hanging_up,
    refusing,
    sending,
)

pytestmark = pytest.mark.usefixtures("client_at_once")


# ----------------------------------------------------------------------------------------- coming back
@pytest.mark.parametrize("cut", [1, 44, 45, 101, len(WAV) - 1])
@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_stream_goes_on_where_it_was(cut: int, knows_ranges: bool, tmp_path: Path) -> None:
    rest = (
        sending(WAV[cut:], status=206, headers={"Content-Range": f"bytes {cut}-{len(WAV) - 1}/{len(WAV)}"})
        if knows_ranges
        else sending(WAV, pieces=7)
    )
    with answering(sending(WAV[:cut], promised=len(WAV)), rest) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.OK
    assert (tmp_path / "out.wav").read_bytes() == WAV
    audio = f"GET /api/v1/generate/{ID}/audio?track=0&format=wav"
    assert canned.requests == ["POST /api/v1/generate", audio, audio]
    assert "range" not in canned.headers[1]
    assert canned.headers[2]["range"] == f"bytes={cut}-"


def test_a_lost_answer_is_asked_for_with_the_same_key(tmp_path: Path) -> None:
    with answering(sending(WAV), accept=[hanging_up, refusing(409, "idempotency_in_flight"), accepting]) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.OK
    assert canned.requests[:3] == ["POST /api/v1/generate"] * 3
    assert len({headers["idempotency-key"] for headers in canned.headers[:3]}) == 1
    assert canned.bodies[0] == canned.bodies[1] == canned.bodies[2]


def test_whoever_gives_up_on_an_answer_withdraws_the_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four attempts are lost, one of which the server may have accepted: the fifth asks which, and cancels it."""
    with answering(sending(WAV), accept=[*[hanging_up] * 4, accepting]) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert canned.requests == ["POST /api/v1/generate"] * 5 + [f"POST /api/v1/generate/{ID}/cancel"]
    assert len({headers["idempotency-key"] for headers in canned.headers[:5]}) == 1
    assert "could not be told" not in capsys.readouterr().err


def test_a_lost_answer_stays_in_doubt_when_the_next_is_a_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(sending(WAV), accept=[hanging_up, refusing(429, retry_after="3600")]) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert canned.requests == ["POST /api/v1/generate"] * 3
    assert "may be making the music now" in capsys.readouterr().err


def test_another_run_is_another_generation(tmp_path: Path) -> None:
    with answering(sending(WAV)) as canned:
        for _ in range(2):
            assert generate(canned.url, tmp_path / "out.wav") == ExitCode.OK
    assert canned.headers[0]["idempotency-key"] != canned.headers[2]["idempotency-key"]


def test_progress_restores_patience(tmp_path: Path) -> None:
    """More breaks than attempts are allowed in a row, but each time something came."""
    cuts = [sending(WAV[: 44 + 500 * (i + 1)], promised=len(WAV)) for i in range(8)]
    with answering(*cuts, sending(WAV)) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.OK
    assert (tmp_path / "out.wav").read_bytes() == WAV


def test_it_gives_up_after_a_bounded_number_of_attempts_and_tells_the_server(tmp_path: Path) -> None:
    with answering(hanging_up) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert [request.split()[0] for request in canned.requests] == ["POST", "GET", "GET", "GET", "GET", "POST"]
    assert canned.requests[-1] == f"POST /api/v1/generate/{ID}/cancel"
    assert list(tmp_path.iterdir()) == []


def test_the_wrong_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = sending(WAV[50:], status=206, headers={"Content-Range": f"bytes 50-{len(WAV) - 1}/{len(WAV)}"})
    with answering(sending(WAV[:100], promised=len(WAV)), wrong) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert "another part" in capsys.readouterr().err


async def test_who_stops_listening_cancels() -> None:
    with answering(sending(WAV[:500], promised=len(WAV))) as canned:
        order = Order(GenerationRequest("1", "calm", 0.1, 1, SamplingParams()))
        async with ServerMaker(canned.url, None).make(order) as (playing,), aclosing(playing):
            assert (await anext(playing)).first_sample == 0
    assert canned.requests[-1] == f"POST /api/v1/generate/{ID}/cancel"


# -------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("status", "exit_code", "attempts"),
    [
        (422, ExitCode.USAGE, 1),
        (404, ExitCode.USAGE, 1),
        (401, ExitCode.USAGE, 1),
        (500, ExitCode.FAILED, 1),
        (503, ExitCode.FAILED, 4),
        (429, ExitCode.FAILED, 4),
    ],
)
@pytest.mark.parametrize("refuses_audio", [True, False])
def test_refusal_says_what_the_server_said(
    status: int,
    exit_code: ExitCode,
    attempts: int,
    refuses_audio: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    no = refusing(status)
    with answering(no, accept=[accepting if refuses_audio else no]) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == exit_code
    out, err = capsys.readouterr()
    told = json.loads(out)["error"]
    assert told["code"] == "some_code"
    assert told["message"].startswith("Because of this.")
    assert ("TUTTI_API_KEY" in told["message"]) == (status == 401)
    assert "Because of this." in err
    # What broke may have accepted the call before: it is asked as often again, so that it can be cancelled.
    is_withdrawn = not refuses_audio and status >= 500
    first = "GET" if refuses_audio else "POST /api/v1/generate"
    assert sum(request.startswith(first) for request in canned.requests) == attempts * (1 + is_withdrawn)
    assert ("may be making the music" in err) == is_withdrawn


def test_an_overloaded_server_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(sending(WAV), accept=[refusing(503, "system_overloaded")]) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert len(canned.requests) == 4
    assert "may be making" not in capsys.readouterr().err


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_patience_gets_it(status: int, tmp_path: Path) -> None:
    no = refusing(status, retry_after="0")
    with answering(no, sending(WAV), accept=[no, no, accepting]) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.OK
    assert len(canned.requests) == 5


def test_a_long_wait_is_told_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(sending(WAV), accept=[refusing(429, "quota_exceeded", retry_after="3600")]) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert len(canned.requests) == 1
    assert "3600 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("retry_after_s", "delay_s"), [(None, 1.0), (7.0, 7.0), (0.5, 1.0), (60.0, 60.0), (61.0, None)]
)
def test_retry_after_is_honoured(
    monkeypatch: pytest.MonkeyPatch, retry_after_s: float | None, delay_s: float | None
) -> None:
    monkeypatch.setattr(cli_retry, "RETRY_DELAYS_S", (1.0,))
    problem = Problem(CliError("no", "rate_limited"), retry_after_s=retry_after_s)
    assert Patience().next_delay_s(problem) == delay_s


@pytest.mark.parametrize("code", ["generation_expired", "replica_lost"])
def test_a_generation_that_has_ended_is_not_asked_for_again(code: str, tmp_path: Path) -> None:
    with answering(refusing(503, code, retry_after="1")) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert sum(request.startswith("GET") for request in canned.requests) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id": "gen_1"}', b'{"id": "../x", "parameters": {"model": "a"}}'])
def test_an_acceptance_that_names_nothing(body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(sending(WAV), accept=[sending(body, status=202)]) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert "names no generation" in capsys.readouterr().err


def test_refusal_without_an_envelope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(sending(b"<html>Bad gateway</html>", status=502)) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert "502" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- the key
@pytest.mark.parametrize("by_option", [True, False])
def test_the_key_goes_into_every_header_and_nowhere_else(
    by_option: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not by_option:
        monkeypatch.setenv("TUTTI_API_KEY", KEY)
    with answering(refusing(500)) as canned:
        assert generate(canned.url, tmp_path / "out.wav", *(["--key", KEY] if by_option else [])) == ExitCode.FAILED
    assert {headers["authorization"] for headers in canned.headers} == {f"Bearer {KEY}"}
    assert KEY not in "".join(canned.requests) + "".join(capsys.readouterr())


@pytest.mark.parametrize("key", ["sk secret", "sk_secret\n", "sk_secr\u00e9t"])
def test_what_can_be_no_key_is_not_repeated(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(sending(WAV)) as canned:
        assert generate(canned.url, tmp_path / "out.wav", "--key", key) == ExitCode.USAGE
    assert canned.requests == []
    out, err = capsys.readouterr()
    assert "copy it again" in err
    assert "secr" not in out + err


def test_without_a_key_none_is_sent(tmp_path: Path) -> None:
    with answering(sending(WAV)) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.OK
    assert "authorization" not in canned.headers[0]


def test_the_settings_of_a_server_know_the_clients_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_API_KEY", KEY)
    assert KEY not in repr(Settings())
