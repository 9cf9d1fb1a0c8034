"""What the machine could do at best: bytes and arithmetic that no implementation can avoid, over measured peaks.

A step reads every weight of the transformer once, whatever the number of rows, and the keys and values of every row's
own past. Peaks are measured in the same run: how fast memory of the size that a step touches is copied or read (so a
model that fits in a cache is held against the cache), and the rate of a large matrix product. Left out, because they
are small: the text encoder (once per request), sampling, and what is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks.formats import BYTES_PER_WEIGHT, arithmetic
from benchmarks.workload import Stream
from models.config import CodecConfig, DecoderConfig, ModelConfig

_SMALLEST_BUFFER = 1 << 20
_CPU_BUFFER, _GPU_BUFFER = 256 << 20, 4 << 30  # more than any cache holds
_PATIENCE_S = 0.5  # for each peak; short calls, so that some of them meet no one else


@dataclass(frozen=True, slots=True)
class Work:
    """What a set of streams takes from its first step to its last, all of them guided and started together.

    Attributes:
        steps: of the longest stream.
        weight_bytes: read in each step.
        kv_bytes: read in all steps together, of every row's past and text.
        decoder_flop, codec_flop: in all; a multiplication and an addition count apart.
    """

    steps: int
    weight_bytes: int
    kv_bytes: int
    decoder_flop: float
    codec_flop: float

    @property
    def bytes_per_step(self) -> float:
        """Mean."""
        return self.weight_bytes + self.kv_bytes / self.steps

    @property
    def total_bytes(self) -> float:
        return self.steps * self.bytes_per_step


@dataclass(frozen=True, slots=True)
class Peaks:
    """Measured on this machine in this run.

    Attributes:
        copy: bytes per second, read and written counted, between buffers that no cache holds.
        near: bytes per second over as many bytes as one step touches; the better of copying and reading.
        matmul: FLOP per second of one large product, in the type of the weights or better.
    """

    copy: float
    near: float
    matmul: float


def floor_s(work: Work, peaks: Peaks) -> float:
    """Seconds below which the work can not be done: memory and arithmetic may overlap, codec and decoder do not."""
    decoder_s = max(work.total_bytes / peaks.near, work.decoder_flop / peaks.matmul)
    return decoder_s + work.codec_flop / peaks.matmul


def work_of(config: ModelConfig, weights: str, streams: Sequence[Stream], text_tokens: Sequence[int], kv: int) -> Work:
    """Counted from the model's shape, so that it holds for any implementation.

    Args:
        weights: the format of the decoder's, see ``benchmarks.formats``.
        text_tokens: of each stream's prompt; the conditioned row of its pair attends to them, the null row to nothing.
        kv: bytes of one stored key or value.
    """
    decoder = config.decoder
    delay, width = max(decoder.delays), decoder.hidden_size
    matrices = _matrix_weights(decoder)
    norms = 2 * width * (3 * decoder.num_layers + 1)
    only_with_text = 2 * width**2 * decoder.num_layers  # the query and the output of attention to the text
    steps = [stream.frames + delay for stream in streams]
    positions = sum(2 * _sum_to(count) + count * tokens for count, tokens in zip(steps, text_tokens, strict=True))
    frames = sum(stream.frames for stream in streams)
    return Work(
        steps=max(steps),
        weight_bytes=round(matrices * BYTES_PER_WEIGHT[weights] + norms * arithmetic(weights).itemsize),
        kv_bytes=positions * kv_bytes_per_position(decoder, kv),
        decoder_flop=sum(steps) * 2.0 * (2 * matrices - only_with_text) + positions * 4.0 * decoder.num_layers * width,
        codec_flop=1e9 * gflop_per_frame(config.codec) * frames * config.channels,
    )


def _matrix_weights(config: DecoderConfig) -> int:
    """Those that a step multiplies by: not the tables it looks up in, nor what text is projected with once."""
    width = config.hidden_size
    layer = 6 * width**2 + 2 * width * config.ffn_dim
    return config.num_layers * layer + config.num_codebooks * config.vocab_size * width


def kv_bytes_per_position(config: DecoderConfig, itemsize: int) -> int:
    """Of one row: keys and values of all layers."""
    return 2 * config.num_layers * config.hidden_size * itemsize


def gflop_per_frame(config: CodecConfig) -> float:
    """Arithmetic of one frame of the codec, a multiplication and an addition counted apart."""
    channels: int = config.num_filters * 2 ** len(config.upsampling_ratios)
    rows = 1
    products = config.kernel_size * config.hidden_size * channels + config.num_lstm_layers * 8 * channels**2
    for ratio in config.upsampling_ratios:
        rows, channels = rows * ratio, channels // 2
        upsample = 2 * (2 * channels) * channels
        hidden = channels // config.compress
        residual = config.num_residual_layers * (config.residual_kernel_size + 1) * channels * hidden
        products += rows * (upsample + residual)
    return 2e-9 * (products + rows * config.last_kernel_size * channels)


def measure_peaks(device: str, dtype: torch.dtype, bytes_per_step: Sequence[float]) -> list[Peaks]:
    """Peaks for steps of these sizes; a second or two."""
    on_gpu = device != "cpu"
    copy = _copy_rate(device, _GPU_BUFFER if on_gpu else _CPU_BUFFER)
    # Arithmetic in float32 is always open to a CPU, and faster where it has no bfloat16 of its own.
    types = {dtype} if on_gpu else {dtype, torch.float32}
    matmul = max(_matmul_rate(device, each, 8192 if on_gpu else 384) for each in types)
    return [Peaks(copy, _near_rate(device, max(_SMALLEST_BUFFER, int(size))), matmul) for size in bytes_per_step]


def _matmul_rate(device: str, dtype: torch.dtype, size: int) -> float:
    left = torch.randn(size, size, device=device, dtype=dtype)
    together, alone = _best_s(lambda: F.linear(left, left), device)
    return 2.0 * size**3 * max(1 / together, torch.get_num_threads() / alone)


def _near_rate(device: str, touched: int) -> float:
    return max(_copy_rate(device, touched), _read_rate(device, touched))


def _copy_rate(device: str, touched: int) -> float:
    source = torch.ones(touched // 8, device=device)  # half of the bytes, 4 each
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(_best_s(lambda: target.copy_(source), device))


def _read_rate(device: str, touched: int) -> float:
    source = torch.ones(touched // 4, device=device)
    return source.nbytes / min(_best_s(source.sum, device))


def _best_s(run: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds of the fastest call: on all threads, and on one.

    All threads of a CPU wait for the one that others on the machine hold up; one alone soon finds a quiet moment.
    Infinite where there is no such choice.
    """
    together, threads = _fastest_s(run, device), torch.get_num_threads()
    if device != "cpu" or threads == 1:
        return together, float("inf")
    torch.set_num_threads(1)
    try:
        return together, _fastest_s(run, device)
    finally:
        torch.set_num_threads(threads)


def _fastest_s(run: Callable[[], object], device: str) -> float:
    """Of as many calls as patience allows, at least 3: a peak, not a habit."""
    best, begin = float("inf"), time.perf_counter()
    calls = 0
    while calls < 3 or time.perf_counter() - begin < _PATIENCE_S:
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        best, calls = min(best, time.perf_counter() - start), calls + 1
    return best


def synchronize(device: str) -> None:
    """Wait for what was started on a GPU."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def _sum_to(n: int) -> int:
    """1 + 2 + … + n"""
    return n * (n + 1) // 2
