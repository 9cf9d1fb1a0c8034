"""WAV headers against libsndfile, and beyond 4 GiB against the standard."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.formats.wav import SAMPLE_BYTES, SampleKind, WavEncoder, layout, wav_header

SUBTYPES: dict[SampleKind, str] = {"s16": "PCM_16", "s24": "PCM_24", "f32": "FLOAT"}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("total", [1, 2, 3, 1_001])
@pytest.mark.parametrize("kind", SUBTYPES)
def test_libsndfile_reads_what_the_header_says(kind: SampleKind, total: int, channels: int) -> None:
    encoder = WavEncoder(44_100, channels, total, kind)
    samples = np.zeros((total, channels * SAMPLE_BYTES[kind]), np.uint8)
    data = encoder.encode(samples[:1]) + encoder.encode(samples[1:]) + encoder.finish()
    assert len(data) == encoder.content_length
    assert len(data) % 2 == 0
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    info = soundfile.info(io.BytesIO(data))
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, channels, total, SUBTYPES[kind])


def test_from_4_gib_on_it_is_rf64(tmp_path: Path) -> None:
    total = 2**30
    whole = layout("f32", 48_000, 2, total, headerless=False)
    header = whole.header
    assert header[:16] == b"RF64\xff\xff\xff\xffWAVEds64"
    chunk_bytes, riff_bytes, data_bytes, samples, table = struct.unpack("<IQQQI", header[16:48])
    assert (chunk_bytes, data_bytes, samples, table) == (28, total * 8, total, 0)
    assert riff_bytes == whole.size - 8
    assert header[-8:] == b"data\xff\xff\xff\xff"
    file = tmp_path / "long.wav"
    with file.open("wb") as sparse:
        sparse.write(header)
        sparse.truncate(whole.size)
    info = soundfile.info(file)
    assert (info.format, info.frames, info.channels) == ("RF64", total, 2)


def test_the_last_size_that_is_plain_riff() -> None:
    fits = (2**32 - 1 - 36) // 4 * 2
    assert wav_header(32_000, 1, fits)[:4] == b"RIFF"
    assert wav_header(32_000, 1, fits + 2)[:4] == b"RF64"
