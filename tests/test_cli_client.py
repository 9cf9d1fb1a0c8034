"""The client of ``tutti generate --url``: whole tracks, broken ones, refusals, and servers that are none.

A canned server on a real socket says byte for byte what a server could say; the real application is in
test_cli_generate.py.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from api.cli_output import CliError, ExitCode
from api.cli_wav import parse_wav_header
from api.formats.wav import wav_header
from tests.canned import (
    RATE,
    SAMPLES,
    WAV,
    answering,
    generate,
    sending,
)

pytestmark = pytest.mark.usefixtures("client_at_once")


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_whole_stream_becomes_the_servers_samples(
    pieces: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.wav"
    with answering(sending(WAV, pieces=pieces)) as canned:
        assert generate(canned.url, target, "--seed", "5", "--greedy", "--model", "tiny") == ExitCode.OK
    assert target.read_bytes() == WAV
    made = json.loads(capsys.readouterr().out)
    assert made["path"] == str(target)
    assert (made["seconds"], made["sample_rate"], made["channels"]) == (0.1, RATE, 1)
    assert (made["seed"], made["model"]) == (5, "tiny")
    assert made["real_time_factor"] > 0
    assert canned.bodies == [
        {
            "prompt": "calm piano",
            "duration": 0.1,
            "seed": 5,
            "guidance": 3.0,
            "temperature": 1.0,
            "top_k": 250,
            "top_p": 0.0,
            "greedy": True,
            "format": "wav",
            "model": "tiny",
        }
    ]


def test_flac_holds_the_same_samples(tmp_path: Path) -> None:
    with answering(sending(WAV)) as canned:
        assert generate(canned.url, tmp_path / "out.flac") == ExitCode.OK
    samples, rate = soundfile.read(tmp_path / "out.flac", dtype="int16")
    assert rate == RATE
    assert np.array_equal(samples, SAMPLES)
    assert "model" not in canned.bodies[0]


@pytest.mark.parametrize("cut", [1, 10, 44, 46, 101, len(WAV) - 1])
@pytest.mark.parametrize("honest_length", [True, False])
def test_stream_that_is_always_cut_leaves_no_file(
    cut: int, honest_length: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shorter than Content-Length said, or shorter than the WAV header said under a Content-Length that fits."""
    promised = len(WAV) if honest_length else cut
    with answering(sending(WAV[:cut], promised=promised)) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "truncated"
    assert "cut short" in err
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out.wav"
    target.write_bytes(b"older music")
    with answering(sending(WAV[:100], promised=len(WAV))) as canned:
        assert generate(canned.url, target) == ExitCode.FAILED
    assert target.read_bytes() == b"older music"


@pytest.mark.parametrize(
    "body", [b"ID3" + bytes(100), WAV + b"\0", WAV[:20] + struct.pack("<H", 3) + WAV[22:], b"RIFF    WAVE" * 1000]
)
def test_answer_that_is_no_16_bit_wav(body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(sending(body)) as canned:
        assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert "cannot be used" in capsys.readouterr().err


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(sending(WAV)) as canned:
        pass
    assert generate(canned.url, tmp_path / "out.wav") == ExitCode.FAILED
    assert "is tutti serve running there?" in capsys.readouterr().err


@given(
    channels=st.sampled_from([1, 2]), samples=st.integers(0, 10**6), cut=st.integers(0, 43), extra=st.binary(max_size=9)
)
def test_wav_header_is_read_wherever_it_is_cut(channels: int, samples: int, cut: int, extra: bytes) -> None:
    whole = wav_header(RATE, channels, samples)
    assert parse_wav_header(whole[:cut]) is None
    header = parse_wav_header(whole + extra)
    assert header is not None
    assert (header.channels, header.sample_rate, header.size, header.total_samples) == (channels, RATE, 44, samples)


def test_wav_header_may_hold_other_chunks() -> None:
    whole = wav_header(RATE, 2, 8)
    with_list = whole[:36] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + whole[36:]
    header = parse_wav_header(with_list)
    assert header is not None
    assert header.size == len(with_list)


def test_wav_header_that_does_not_end() -> None:
    with pytest.raises(CliError, match="does not end"):
        parse_wav_header(b"RIFF\0\0\0\0WAVE" + b"LIST" + struct.pack("<I", 2**31) + bytes(5000))
