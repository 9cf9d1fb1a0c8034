"""The codec on the CPU kernel against the one in torch; streamed is whole and batched is alone, to the last bit."""

from __future__ import annotations

import dataclasses
import logging
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.catalog import TINY_PATH
from models.checkpoint import load_checkpoint
from models.encodec.cpu_decoder import CpuEncodecDecoder, why_unsupported
from models.encodec.decoder import EncodecDecoder
from models.encodec.geometry import final_samples
from models.encodec.loader import build_codec
from models.encodec.plan import Standing, plan_stages, stages_of
from models.encodec.streaming import StreamingDecoder, decode_batch
from models.engine_config import EngineConfig
from models.kernels.cpu.build import VARIANTS
from models.kernels.cpu.library import kernel
from tests.factories import make_checkpoint
from tests.models.codec_examples import Example, codec_config, make_example, random_encodec

GEOMETRIES: dict[str, dict[str, Any]] = {
    "published": {},
    "constant padding": {"pad_mode": "constant"},
    "two residual layers, not dilated": {"num_residual_layers": 2, "dilation_growth_rate": 1, "num_filters": 8},
    "other kernels": {"kernel_size": 5, "last_kernel_size": 3, "residual_kernel_size": 5, "compress": 4},
    "odd ratios, one LSTM layer": {"upsampling_ratios": [3, 2, 1], "num_lstm_layers": 1, "num_filters": 10},
    "no memory at the edges": {"kernel_size": 1, "last_kernel_size": 1, "num_residual_layers": 0},
    "tiles that are not full": {
        "num_filters": 20,
        "hidden_size": 10,
        "upsampling_ratios": [4, 2],
        "num_lstm_layers": 1,
    },
}
FORMATS = ("fp32", "bf16")


@cache
def example(name: str) -> Example:
    return make_example(**GEOMETRIES[name])


@cache
def compiled(name: str, weights: str, variant: str = "native") -> CpuEncodecDecoder:
    return CpuEncodecDecoder(example(name).ours, weights, kernel(variant))


def signal_to_noise_db(made: Tensor, exact: Tensor) -> float:
    return float(20 * torch.log10(exact.norm() / (made - exact).norm()))


def streamed(decoder: CpuEncodecDecoder, codes: Tensor, sizes: list[int]) -> Tensor:
    """Codes [K, F] in pieces of the given sizes, cycled."""
    stream = StreamingDecoder(decoder, codes.shape[1])
    out: list[Tensor] = []
    while not stream.is_finished:
        size = sizes[len(out) % len(sizes)]
        out.append(stream.push(codes[:, stream.frames_pushed : stream.frames_pushed + size]))
    return torch.cat(out)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_samples_are_torchs(name: str, variant: str) -> None:
    for frames in (1, 2, 3, 4, 5, 17):
        codes = example(name).random_codes(frames, batch=2, seed=frames)
        wanted = example(name).ours.decode(codes)
        torch.testing.assert_close(compiled(name, "fp32", variant).decode(codes), wanted, atol=2e-5, rtol=0)
        assert signal_to_noise_db(compiled(name, "bf16", variant).decode(codes), wanted) > 30


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_chunking_is_the_whole_clip_to_the_last_bit(name: str, weights: str, variant: str) -> None:
    decoder = compiled(name, weights, variant)
    for frames in (1, 2, 3, 4, 5, 6, 7, 23):
        codes = example(name).random_codes(frames, seed=frames)
        whole = decoder.decode(codes)[0, 0]
        for size in (1, 2, 3, 5, 8):
            assert torch.equal(streamed(decoder, codes[0], [size]), whole), f"{frames} frames by {size}"


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 150), sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_any_chunking_of_any_length(frames: int, sizes: list[int], seed: int) -> None:
    codes = example("published").random_codes(frames, seed=seed)
    for weights in FORMATS:
        decoder = compiled("published", weights)
        assert torch.equal(streamed(decoder, codes[0], sizes), decoder.decode(codes)[0, 0])


@pytest.mark.parametrize("weights", FORMATS)
def test_a_stream_is_the_same_to_the_last_bit_beside_any_others(weights: str) -> None:
    decoder = compiled("published", weights)
    lengths, late = [3, 20, 20, 26, 31, 20, 20, 20, 20], [0, 0, 0, 4, 2, 0, 0, 0, 1]
    tracks = [example("published").random_codes(length, seed=index)[0] for index, length in enumerate(lengths)]
    streams = [StreamingDecoder(decoder, length) for length in lengths]
    heard: list[list[Tensor]] = [[] for _ in tracks]
    for turn in range(40):
        ready = [i for i in range(len(tracks)) if turn >= late[i] and not streams[i].is_finished]
        sizes = [1 + (turn + i // 4) % 3 for i in ready]
        codes = [tracks[i][:, (at := streams[i].frames_pushed) : at + n] for i, n in zip(ready, sizes, strict=True)]
        for i, samples in zip(ready, decode_batch([streams[i] for i in ready], codes), strict=True):
            heard[i].append(samples)
    for track, parts in zip(tracks, heard, strict=True):
        assert torch.equal(torch.cat(parts), decoder.decode(track[None])[0, 0])


@pytest.mark.parametrize("weights", FORMATS)
def test_threads_change_nothing(weights: str) -> None:
    codes, decoder = example("published").random_codes(30, batch=3), compiled("published", weights)
    wanted, threads = decoder.decode(codes), torch.get_num_threads()
    try:
        for count in (1, 3, 5):
            torch.set_num_threads(count)
            assert torch.equal(decoder.decode(codes), wanted)
    finally:
        torch.set_num_threads(threads)


def test_a_state_may_be_stepped_from_twice() -> None:
    decoder, codes = compiled("published", "bf16"), example("published").random_codes(12)
    _, state = decoder.step(codes[:, :, :6], decoder.fresh_state(), last=False)
    first, _ = decoder.step(codes[:, :, 6:], state, last=True)
    again, _ = decoder.step(codes[:, :, 6:], state, last=True)
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_plan_makes_exactly_the_samples_that_are_final(name: str) -> None:
    config = example(name).ours.config
    stages = stages_of(config)
    for sizes in ([1], [2, 3], [7]):
        standing, pushed, made = (Standing(),) * len(stages), 0, 0
        for turn in range(20):
            size = sizes[turn % len(sizes)]
            plans = plan_stages(stages, standing, size, last=False)
            standing, pushed = tuple(plan.left for plan in plans), pushed + size
            made += plans[-1].rows
            assert made == final_samples(config, pushed)


def test_bfloat16_is_forty_decibels_below_the_music_of_the_tiny_model() -> None:
    checkpoint = load_checkpoint(TINY_PATH)
    exact = EncodecDecoder.from_checkpoint(checkpoint)
    codes = music_of_tiny()
    wanted = exact.decode(codes)
    assert signal_to_noise_db(CpuEncodecDecoder(exact, "fp32").decode(codes), wanted) > 90
    assert signal_to_noise_db(CpuEncodecDecoder(exact, "bf16").decode(codes), wanted) > 40


def music_of_tiny() -> Tensor:
    """int64 [1, K, frames], made by the tiny model."""
    from models.tiny.training.evaluate_formats import Maker

    _, codes = Maker(load_checkpoint(TINY_PATH), "fp32").make(["a calm piano at 90 bpm"], 2.0)
    return codes[0][None]


# ------------------------------------------------------------------------------------------------ choosing it


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("use_conv_shortcut", True, "use_conv_shortcut"),
        ("num_residual_layers", 2, "dilated"),
        ("num_filters", 3, "must be even"),
        ("hidden_size", 5, "must be even"),
        ("last_kernel_size", 19, "at most 17 wide"),
        ("upsampling_ratios", (2,), "16-fold"),
    ],
)
def test_geometries_it_can_not_run_are_named(name: str, value: object, message: str) -> None:
    config = codec_config(random_encodec().config)
    assert why_unsupported(config) is None
    changes: dict[str, Any] = {name: value}
    assert message in str(why_unsupported(dataclasses.replace(config, **changes)))


def test_the_codec_is_as_exact_as_the_weights_unless_it_is_said(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(make_checkpoint(tmp_path))
    for weights, wanted in (("fp32", "fp32"), ("bf16", "bf16"), ("int8", "bf16"), ("int4", "bf16")):
        chosen = build_codec(checkpoint, EngineConfig(weights=weights))
        assert isinstance(chosen, CpuEncodecDecoder)
        assert chosen.weights == wanted
    exact = build_codec(checkpoint, EngineConfig(weights="int8", codec_dtype="float32"))
    assert isinstance(exact, CpuEncodecDecoder)
    assert exact.weights == "fp32"


def test_where_it_can_not_run_torch_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = load_checkpoint(make_checkpoint(tmp_path))
    config = EngineConfig(weights="int8")
    native = build_codec(checkpoint, config)
    monkeypatch.setattr("models.encodec.loader.library.why_unavailable", lambda: "no C++ compiler")
    with caplog.at_level(logging.WARNING):
        plain = build_codec(checkpoint, config)
    assert isinstance(plain, EncodecDecoder)
    assert plain.codebooks.dtype == torch.float32
    assert "no C++ compiler" in caplog.text
    codes = torch.randint(checkpoint.config.codec.codebook_size, (1, 4, 9))
    assert signal_to_noise_db(native.decode(codes), plain.decode(codes)) > 30
