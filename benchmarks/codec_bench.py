"""What a frame of the codec costs, in torch and in our kernel: ``python -m benchmarks.codec_bench [--threads N]``.

Random weights: 64 filters are the published codec, 20 the tiny model's. Median milliseconds per frame, of one stream
and of eight together, in chunks of 0.2 to 1 second; and the samples' signal-to-noise ratio against torch in float32.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from collections.abc import Sequence
from statistics import median

import torch

from benchmarks.bench_codec import ENDLESS, codec_config, random_codes
from models.encodec.cpu_decoder import CpuEncodecDecoder
from models.encodec.decoder import EncodecDecoder
from models.encodec.interface import Codec
from models.encodec.streaming import StreamingDecoder, decode_batch

CHUNKS = ((1, 10), (1, 25), (1, 50), (8, 10), (8, 25), (8, 50))
"""(streams, frames)"""

_PATIENCE_S = 0.7


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec_bench")
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args(arguments).threads)
    print("| codec | SNR | " + " | ".join(f"{streams} × {frames} frames" for streams, frames in CHUNKS) + " |")
    print("|---|---|" + "---|" * len(CHUNKS))
    for filters, layers in ((64, 2), (20, 1)):
        exact = random_codec(filters, layers)
        codes = random_codes(exact, 100)[None]
        wanted = exact.decode(codes)
        for name, codec in implementations(exact).items():
            noise = codec.decode(codes) - wanted
            ratio = f"{20 * torch.log10(wanted.norm() / noise.norm()):.0f} dB" if noise.any() else ""
            cells = " | ".join(f"{1e3 * frame_s(codec, *chunk):.3f}" for chunk in CHUNKS)
            print(f"| {filters} filters, {name} | {ratio} | {cells} |", flush=True)
    return 0


def random_codec(filters: int, lstm_layers: int) -> EncodecDecoder:
    """In torch, in float32."""
    codec = EncodecDecoder(dataclasses.replace(codec_config(filters), num_lstm_layers=lstm_layers)).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in codec.parameters():
        parameter.data.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
    return codec


def implementations(exact: EncodecDecoder) -> dict[str, Codec]:
    """The same weights in four ways."""
    return {
        "torch fp32": exact,
        "torch bf16": copy.deepcopy(exact).to(torch.bfloat16),
        "kernel fp32": CpuEncodecDecoder(exact, "fp32"),
        "kernel bf16": CpuEncodecDecoder(exact, "bf16"),
    }


def frame_s(codec: Codec, streams: int, frames: int) -> float:
    """Seconds of one frame, when so many streams push so many at a time."""
    decoders = [StreamingDecoder(codec, ENDLESS) for _ in range(streams)]
    codes = [random_codes(codec, frames)] * streams
    for _ in range(2):  # the clip's beginning, and the first of the rest
        decode_batch(decoders, codes)
    seconds: list[float] = []
    while sum(seconds) < _PATIENCE_S or len(seconds) < 3:
        start = time.perf_counter()
        decode_batch(decoders, codes)
        seconds.append(time.perf_counter() - start)
    return median(seconds) / frames / streams


if __name__ == "__main__":
    raise SystemExit(main())
