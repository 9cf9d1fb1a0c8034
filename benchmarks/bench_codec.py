"""How long the codec takes on one CPU thread: whole clips, small and large pushes, eight streams together.

Random weights of real widths: 64 filters are the published codec, 16 a small one. Each line carries
``real_time_factor`` in its extra info (audio seconds per second, higher is better; `--benchmark-json` keeps it),
next to ``gflop``, the arithmetic that could not be avoided, and ``gflop_per_s``, to hold against ``test_ceiling``:
the same thread's rate at one large matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from benchmarks.ceiling import gflop_per_frame
from models.config import CodecConfig
from models.encodec.decoder import EncodecDecoder
from models.encodec.interface import Codec
from models.encodec.streaming import StreamingDecoder, decode_batch

ENDLESS = 10**9
STREAMS = 8


def codec_config(num_filters: int) -> CodecConfig:
    """The published geometry at any width."""
    return CodecConfig(
        sampling_rate=32_000,
        audio_channels=1,
        num_filters=num_filters,
        hidden_size=128,
        codebook_size=2048,
        codebook_dim=128,
        num_quantizers=4,
        upsampling_ratios=(8, 5, 4, 4),
        kernel_size=7,
        last_kernel_size=7,
        residual_kernel_size=3,
        dilation_growth_rate=2,
        num_residual_layers=1,
        num_lstm_layers=2,
        compress=2,
        use_causal_conv=False,
        pad_mode="reflect",
        trim_right_ratio=1.0,
        norm_type="weight_norm",
        use_conv_shortcut=False,
        normalize=False,
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[16, 64], ids=lambda filters: f"{filters}-filters")
def decoder(request: pytest.FixtureRequest) -> EncodecDecoder:
    codec = EncodecDecoder(codec_config(request.param)).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in codec.parameters():
        parameter.data.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
    return codec


def random_codes(decoder: Codec, frames: int) -> Tensor:
    """int64 [K, frames]"""
    generator = torch.Generator().manual_seed(0)
    shape = (decoder.config.num_quantizers, frames)
    return torch.randint(decoder.config.codebook_size, shape, generator=generator)


def measure(
    benchmark: BenchmarkFixture, decoder: EncodecDecoder, frames: int, run: Callable[..., Any], *args: object
) -> None:
    benchmark(run, *args)
    if benchmark.stats is None:  # --benchmark-disable
        return
    median_s, gflop = benchmark.stats.stats.median, frames * gflop_per_frame(decoder.config)
    benchmark.extra_info["real_time_factor"] = round(frames / decoder.config.frame_rate / median_s, 1)
    benchmark.extra_info["gflop"] = round(gflop, 4)
    benchmark.extra_info["gflop_per_s"] = round(gflop / median_s, 1)


@pytest.mark.benchmark(group="codec: ceiling")
def test_ceiling(benchmark: BenchmarkFixture) -> None:
    size = 768
    left, right = torch.randn(size, size), torch.randn(size, size)
    benchmark(torch.mm, left, right)
    if benchmark.stats is not None:
        benchmark.extra_info["gflop_per_s"] = round(2e-9 * size**3 / benchmark.stats.stats.median, 1)


@pytest.mark.benchmark(group="codec: whole clip of 4 s")
def test_whole_clip(benchmark: BenchmarkFixture, decoder: EncodecDecoder) -> None:
    frames = 200
    measure(benchmark, decoder, frames, decoder.decode, random_codes(decoder, frames)[None])


@pytest.mark.benchmark(group="codec: one push")
@pytest.mark.parametrize("frames", [1, 10, 50], ids=lambda frames: f"{frames}-frames")
def test_push(benchmark: BenchmarkFixture, decoder: EncodecDecoder, frames: int) -> None:
    codes, stream = random_codes(decoder, frames), StreamingDecoder(decoder, ENDLESS)
    stream.push(random_codes(decoder, 20))
    measure(benchmark, decoder, frames, stream.push, codes)


@pytest.mark.benchmark(group="codec: one push to each of 8 streams")
@pytest.mark.parametrize("frames", [1, 10, 50], ids=lambda frames: f"{frames}-frames")
@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
def test_push_to_many(benchmark: BenchmarkFixture, decoder: EncodecDecoder, frames: int, together: bool) -> None:
    streams = [StreamingDecoder(decoder, ENDLESS) for _ in range(STREAMS)]
    codes = [random_codes(decoder, frames)] * STREAMS
    decode_batch(streams, [random_codes(decoder, 20)] * STREAMS)

    def one_by_one() -> list[Tensor]:
        return [stream.push(piece) for stream, piece in zip(streams, codes, strict=True)]

    def at_once() -> list[Tensor]:
        return decode_batch(streams, codes)

    measure(benchmark, decoder, STREAMS * frames, at_once if together else one_by_one)
