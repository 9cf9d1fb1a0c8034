"""The process that decodes is killed, not believed, and has nothing to give away."""

from __future__ import annotations

import pytest

from api.errors import ApiError
from api.uploads import decoder
from api.uploads.decoder import Decoder
from api.uploads.probe import probe
from tests.api.uploads.conftest import MAX_S, sound


async def test_a_decoder_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "WALL_S", 0.2)
    monkeypatch.setattr(decoder, "_PROGRAM", "import time; time.sleep(600)")
    await refused_as_damaged()


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(1)",
        "import os; os.abort()",
        "print('no json')",
        "print('[]')",
        "print('{}')",
        'print(\'{"sample_rate": 32000, "channels": 1, "total_samples": 1000000000000}\')',
        'print(\'{"sample_rate": 32000, "channels": 0, "total_samples": 0}\')',
        'print(\'{"sample_rate": "x", "channels": null, "total_samples": true}\')',
        "import sys\nwhile True: sys.stdout.write('x' * 65536)",
    ],
)
async def test_a_decoder_that_is_no_longer_ours_is_not_believed(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies, lies, or floods."""
    monkeypatch.setattr(decoder, "_PROGRAM", program)
    await refused_as_damaged()


async def refused_as_damaged() -> None:
    decoding = Decoder(MAX_S)
    with pytest.raises(ApiError) as caught:
        await decoding.decode(probe(sound(), MAX_S))
    decoding.close()
    assert caught.value.code == "unreadable_audio"


@pytest.mark.parametrize(
    "attempt",
    [
        "bytearray(2**30)",
        "open('/etc/passwd').read()",
        "import socket; socket.socket()",
        "os.environ['TUTTI_SECRET_KEY']",
    ],
)
async def test_the_decoder_has_neither_memory_nor_files_nor_secrets(
    attempt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would run there if a decoder were taken over."""
    monkeypatch.setenv("TUTTI_SECRET_KEY", "x" * 40)
    answer = '{"sample_rate": 32000, "channels": 1, "total_samples": 1}'
    program = (
        "import os, sys; sys.path.insert(0, sys.argv.pop(1)); from api.uploads.decode import confine; confine()\n"
        f"{attempt}\nsys.stdout.buffer.write(b'{answer}\\n' + bytes(4))"
    )
    monkeypatch.setattr(decoder, "_PROGRAM", program.replace(attempt, "pass"))
    decoding = Decoder(MAX_S)
    assert (await decoding.decode(probe(sound(), MAX_S))).total_samples == 1
    decoding.close()
    monkeypatch.setattr(decoder, "_PROGRAM", program)
    await refused_as_damaged()
