"""The command line as a whole: what it refuses, how it says so, and how it ends."""

from __future__ import annotations

import json
import socket
import sys
import types
from pathlib import Path

import pytest

from api import cli, cli_serve
from api.cli import main
from api.cli_output import CliError, ExitCode, report_error
from api.errors import ErrorCode, from_tutti
from deployments import platform
from models.errors import (
    EngineDeadError,
    EngineOverloadedError,
    GenerationFailedError,
    ModelNotFoundError,
    ReplicaLostError,
    TuttiError,
)

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nope", "No such command 'nope'"),
        ("generate", "Missing argument"),
        ("generate calm", "--output"),
        ("generate calm -o out.txt", ".wav or .flac or .mp3"),
        ("generate calm -o .", ".wav or .flac or .mp3"),
        ("generate calm -o no-such-folder/out.wav", "make it first"),
        ("generate calm -o out.wav --tokens-out codes.bin", ".npy"),
        ("generate calm -o out.wav --tokens-out codes.npy --url http://127.0.0.1:1", "Drop --url"),
        ("generate calm -o out.wav --duration long", "--duration"),
        ("generate calm -o out.wav --duration 0", "above 0"),
        ("generate calm -o out.wav --duration -3", "above 0"),
        ("generate calm -o out.wav --duration nan", "finite"),
        ("generate calm -o out.wav --seed -1", "seed"),
        ("generate calm -o out.wav --guidance 0", "guidance"),
        ("generate calm -o out.wav --temperature -1", "temperature"),
        ("generate calm -o out.wav --top-k -1", "top_k"),
        ("generate calm -o out.wav --top-p 2", "top_p"),
        ("generate calm -o out.wav --model no-such-model", "no-such-model"),
        ("generate calm -o out.wav --url ftp://x", "--url"),
        ("serve --port 0", "--port"),
        ("serve --config no-such.yaml", "no-such.yaml"),
        ("doctor --port 99999", "--port"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: str, words: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("prompt", "words"), [("a" * 2001, "2001 characters"), ("   ", "blank"), ("music \udce9", "surrogates")]
)
def test_prompts_that_are_refused(prompt: str, words: str, capsys: Capture, tmp_path: Path) -> None:
    assert main(["generate", prompt, "-o", str(tmp_path / "out.wav"), "--json"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert words in err
    assert words in json.loads(out)["error"]["message"]


def test_target_that_is_a_folder(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "out.wav").mkdir()
    assert main(["generate", "calm", "-o", str(tmp_path / "out.wav")]) == ExitCode.USAGE
    assert "is a folder" in capsys.readouterr().err


def test_error_as_json(capsys: Capture, tmp_path: Path) -> None:
    assert main(["generate", "calm", "-o", str(tmp_path / "out.wav"), "--top-k", "-1", "--json"]) == ExitCode.USAGE
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "invalid_parameter"
    assert error["param"] == "top_k"


def test_no_command_shows_the_help(capsys: Capture) -> None:
    assert main([]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert "generate" in out + err
    assert "Error" not in err


def test_help_and_version(capsys: Capture) -> None:
    assert main(["--help"]) == ExitCode.OK
    assert "Exit codes" in capsys.readouterr().out
    assert main(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("tutti ")


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFoundError("none"),
        EngineOverloadedError("full", 3.0),
        GenerationFailedError("failed"),
        EngineDeadError("dead"),
        ReplicaLostError("lost"),
    ],
)
def test_errors_have_the_names_of_the_http_api(error: TuttiError, capsys: Capture) -> None:
    report_error(error, as_json=True)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == from_tutti(error).code.value


def test_own_parameter_error_has_the_name_of_the_http_api(capsys: Capture) -> None:
    report_error(CliError("no", "invalid_parameter", ExitCode.USAGE), as_json=True)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == ErrorCode.INVALID_PARAMETER.value


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        report_error(ZeroDivisionError("bug"), as_json=False)


def test_interrupt(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("api.cli_doctor.diagnose", interrupted)
    assert main(["doctor"]) == ExitCode.INTERRUPTED
    assert "Interrupted" in capsys.readouterr().err


def test_serve_refuses_a_misspelt_setting(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_LOG_LEVLE", "info")
    assert main(["serve"]) == ExitCode.USAGE
    assert "TUTTI_LOG_LEVEL" in capsys.readouterr().err


def test_serve_on_a_port_that_is_taken(capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "another port" in err


def test_banner_ends_with_a_line_to_try() -> None:
    banner = cli_serve.banner("http://127.0.0.1:8000")
    assert "http://127.0.0.1:8000\n" in banner
    command = banner.split("curl", 1)[1]
    assert json.loads(command.split("-d '", 1)[1].split("'", 1)[0])["duration"] == 10
    assert command.rstrip().endswith("-o music.wav")


def test_serve_stops_the_platform_it_started(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    running = platform.Platform("127.0.0.1", 8123)
    monkeypatch.setattr(cli_serve, "load_config", lambda _config: None)
    monkeypatch.setattr(platform, "start", lambda *_args, **_options: running)
    monkeypatch.setattr(platform.Platform, "stop", lambda self: stopped.append(self is running))
    monkeypatch.setattr(cli_serve, "wait_for_stop", lambda: None)
    assert cli.main(["serve", "--port", "8123"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "Tutti is ready: http://127.0.0.1:8123" in out
    assert "Draining" in err
    assert stopped == [True]


@pytest.mark.parametrize("which", ["engine", "peers"])
def test_bench_hands_its_arguments_on(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def benchmark(arguments: list[str]) -> int:
        given.append(arguments)
        return 3

    monkeypatch.setitem(sys.modules, f"benchmarks.{which}_bench", types.SimpleNamespace(main=benchmark))
    assert main(["bench", which, "--model", "tiny", "--json", "--help"]) == 3
    assert given == [["--model", "tiny", "--json", "--help"]]
