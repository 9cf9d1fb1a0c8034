"""Encoders: any way of cutting a track into chunks gives the same file, and the first bytes do not wait."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from api.formats import mp3
from api.formats.audio import LIVE_FORMATS, Encoder, LiveFormat, make_encoder, to_pcm16
from api.formats.ogg import SerialFixer, checksum
from api.formats.resample import Resampler, resampled_length
from models.errors import GenerationFailedError, InvalidRequestError
from models.types import AudioChunk
from tests.api.fakes import SAMPLE_RATE, sine


def encoder(audio_format: LiveFormat, total: int, channels: int = 1, rate: int = SAMPLE_RATE) -> Encoder:
    return make_encoder(audio_format, AudioChunk(0, 0, channels, rate, b"", total, is_last=False))


def encode(audio_format: LiveFormat, track: np.ndarray[tuple[int, int], np.dtype[np.int16]], step: int) -> bytes:
    coder = encoder(audio_format, len(track), track.shape[1])
    return b"".join(coder.encode(track[at : at + step]) for at in range(0, len(track), step)) + coder.finish()


def music(total: int, channels: int = 1, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    noise = np.random.default_rng(seed).normal(0, 0.1, (total, channels))
    return to_pcm16((sine(seed, total, channels) + noise).astype("<f4").tobytes(), channels)


@settings(max_examples=25, deadline=None)
@given(
    total=st.integers(1, 20_000),
    step=st.integers(1, 9_000),
    channels=st.integers(1, 2),
    name=st.sampled_from(LIVE_FORMATS),
)
def test_chunks_do_not_show(total: int, step: int, channels: int, name: LiveFormat) -> None:
    track = music(total, channels)
    step = max(step, total // 50 + 1)
    assert encode(name, track, step) == encode(name, track, total)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("total", [1, 640, 4096, 32_000, 50_001])
@pytest.mark.parametrize("name", ["wav", "flac"])
def test_lossless_formats_give_back_every_sample(name: LiveFormat, total: int, channels: int) -> None:
    track = music(total, channels)
    decoded, rate = soundfile.read(io.BytesIO(encode(name, track, 6_400)), dtype="int16", always_2d=True)
    assert rate == SAMPLE_RATE
    assert np.array_equal(decoded, track)


@pytest.mark.parametrize("name", ["wav", "pcm"])
def test_content_length_is_kept(name: LiveFormat) -> None:
    assert encoder(name, 12_345, 2).content_length == len(encode(name, music(12_345, 2), 1_000))


@pytest.mark.parametrize("name", LIVE_FORMATS)
def test_first_bytes_leave_with_the_first_chunk(name: LiveFormat) -> None:
    """The engine's first chunk is 0.2 s; a client hears something of it at once in every format."""
    track = music(30 * SAMPLE_RATE)
    first = encoder(name, len(track)).encode(track[: SAMPLE_RATE // 5])
    assert len(first) > 1_000


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("total", [1, 500, 640, 1_152, 6_400, 33_333, 96_000])
def test_mp3_has_its_exact_length(total: int, channels: int) -> None:
    data = encode("mp3", music(total, channels), 6_400)
    frames, _ = mp3.layout(total)
    assert len(data) == (frames + 1) * mp3.frame_bytes(SAMPLE_RATE)
    decoded, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    assert (rate, decoded.shape) == (SAMPLE_RATE, (total, channels))


def test_mp3_info_frame_says_what_lame_itself_would_write() -> None:
    """LAME comes back to its first frame when a file is seekable: frames, bytes, delay and padding must agree."""
    track = music(45_678)
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", SAMPLE_RATE, 1, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT", compression_level=mp3.COMPRESSION_LEVEL,
    ) as whole:  # fmt: skip
        whole.write(track)
    theirs, ours = file.getvalue(), encode("mp3", track, 5_000)
    size = mp3.frame_bytes(SAMPLE_RATE)
    assert ours[size:] == theirs[size:]

    def facts(frame: bytes) -> tuple[int, int, int, bytes]:
        at = frame.index(b"Info")
        flags, frames, octets = struct.unpack(">III", frame[at + 4 : at + 16])
        return flags, frames, octets, frame[at + 120 + 21 : at + 120 + 24]

    assert facts(ours[:size]) == facts(theirs[:size])


def test_mp3_needs_a_rate_it_can_carry() -> None:
    with pytest.raises(InvalidRequestError, match="wav or flac") as caught:
        encoder("mp3", 1_000, rate=24_000)
    assert caught.value.param == "format"


def test_rounding_is_to_nearest_and_loud_samples_are_clipped_not_wrapped() -> None:
    floats = np.array([0.0, 1.0, -1.0, 1.5, -7.0, 0.4 / 32767, 0.6 / 32767, -0.6 / 32767], dtype="<f4")
    assert to_pcm16(floats.tobytes(), 1)[:, 0].tolist() == [0, 32767, -32767, 32767, -32767, 0, 1, -1]


@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_holds_the_music_of_every_channel(channels: int) -> None:
    """libsndfile hands LAME half of each block of 16-bit stereo; the rest is whatever lay in memory."""
    track = to_pcm16(sine(3, 64_000, channels).tobytes(), channels)
    decoded, _ = soundfile.read(io.BytesIO(encode("mp3", track, 6_400)), always_2d=True)
    clean = track / 32768
    noise = ((decoded - clean) ** 2).mean(axis=0)
    assert ((clean**2).mean(axis=0) > 300 * noise).all()  # 25 dB


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("total", [1, 500, 6_400, 33_333, 96_000])
def test_opus_has_its_exact_length_at_48_khz(total: int, channels: int) -> None:
    decoded, rate = soundfile.read(io.BytesIO(encode("opus", music(total, channels), 6_400)), always_2d=True)
    assert (rate, decoded.shape) == (48_000, (resampled_length(total, SAMPLE_RATE, 48_000), channels))


def test_opus_holds_the_music() -> None:
    track = to_pcm16(sine(3, 64_000).tobytes(), 1)
    decoded, _ = soundfile.read(io.BytesIO(encode("opus", track, 6_400)), always_2d=True)
    clean = sine_at(3, 48_000, 96_000)
    assert (clean**2).mean() > 100 * ((decoded - clean) ** 2).mean()  # 20 dB


def sine_at(seed: int, rate: int, total: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return (0.5 * np.sin(2 * np.pi * 220.0 * 2 ** (seed % 24 / 12) * np.arange(total) / rate)).reshape(-1, 1)


def test_opus_pages_are_whole_and_carry_the_fixed_serial_number() -> None:
    data = encode("opus", music(64_000), 6_400)
    at = 0
    while at < len(data):
        segments = data[at + 26]
        size = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        page = data[at : at + size]
        assert page[14:18] == b"TUTT"
        assert checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")
        at += size
    assert at == len(data)


def test_the_checksum_is_oggs() -> None:
    """Of a page that libsndfile wrote itself, serial number and all."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(48_000), 48_000, format="OGG", subtype="OPUS")
    page = file.getvalue()[:47]  # OpusHead, 19 bytes
    assert checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")


def test_what_is_no_ogg_page_is_an_error() -> None:
    with pytest.raises(GenerationFailedError, match="no page"):
        SerialFixer().push(b"RIFF" + bytes(40))
    fixer = SerialFixer()
    assert fixer.push(b"OggS\0") == b""
    with pytest.raises(GenerationFailedError, match="within a page"):
        fixer.finish()


@settings(max_examples=30, deadline=None)
@given(
    total=st.integers(1, 9_000),
    step=st.integers(1, 4_000),
    channels=st.integers(1, 2),
    to_hz=st.sampled_from([44_100, 48_000, 96_000, 16_000]),
)
def test_resampling_has_an_exact_length_and_chunks_do_not_show(
    total: int, step: int, channels: int, to_hz: int
) -> None:
    track = sine(1, total, channels)

    def resampled(step: int) -> bytes:
        converter = Resampler(SAMPLE_RATE, to_hz, channels, total)
        parts = [converter.push(track[at : at + step]) for at in range(0, total, step)]
        return np.concatenate([*parts, converter.finish()]).tobytes()

    step = max(step, total // 50 + 1)
    assert resampled(step) == resampled(total)
    assert len(resampled(total)) == 4 * channels * resampled_length(total, SAMPLE_RATE, to_hz)


def test_the_same_track_is_the_same_bytes_in_another_process() -> None:
    """What would differ is chance, time, and memory that nobody wrote to."""
    script = (
        "import hashlib; from tests.api.formats.test_audio import *\n"
        "for name in LIVE_FORMATS: print(hashlib.sha256(encode(name, music(20_000, 2), 6_400)).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "MALLOC_PERTURB_": perturb},
        ).stdout
        for perturb in ("85", "170")
    ]
    here = [hashlib.sha256(encode(name, music(20_000, 2), 3_000)).hexdigest() for name in LIVE_FORMATS]
    assert runs[0].split() == runs[1].split() == here


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_an_error(bad: float) -> None:
    with pytest.raises(GenerationFailedError, match="bug"):
        to_pcm16(np.array([0.1, bad], dtype="<f4").tobytes(), 1)
