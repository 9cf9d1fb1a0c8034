"""How much memory the engine takes in a process of its own, against what it can not do without.

``python -m benchmarks.memory --model small --random-weights --weights int8``: a checkpoint of float32 is written to a
temporary folder, as models are published; a fresh process loads it as a server would, makes the streams, and reports.
The budget is weights in their formats, exact keys and values, and 600 MB for interpreter, libraries and the rest.
With ``--prompts one`` the streams are variations of one prompt, whose text is encoded and held once; with ``each`` they
say different things at the same length. The last line is one JSON object. Linux only: the kernel's own count of
resident pages is read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.ceiling import kv_bytes_per_position
from benchmarks.formats import FORMATS, engine_config, kv_itemsize
from benchmarks.weights import SHAPES, random_weights
from benchmarks.workload import streams_for
from models.catalog import TINY, resolve
from models.engine.engine import Engine
from models.engine.loader import LoadedModel, load_model
from models.errors import TuttiError
from models.musicgen.cpu_decoder import CpuDecoder
from models.types import GenerationRequest

ALLOWANCE_BYTES = 600_000_000
PROMPTS = ("mixed", "one", "each")
_COUNTERS = {"VmRSS": "rss_bytes", "VmHWM": "peak_rss_bytes", "RssAnon": "anonymous_bytes"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in a fresh process, and return the exit code: 0 within the budget, 1 above it or failed."""
    options = _parser().parse_args(arguments)
    if options.here:
        print(json.dumps(measure(Path(options.model), options)))
        return 0
    with _folder(options) as folder:
        command = [sys.executable, "-m", "benchmarks.memory", "--here", "--model", str(folder)]
        for name in ("weights", "batch", "duration", "threads", "prompts"):
            command += [f"--{name}", str(getattr(options, name))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    result = {"benchmark": "memory", "model": options.model} | json.loads(done.stdout.splitlines()[-1])
    print(*lines(result), json.dumps(result), sep="\n")
    return 0 if result["within_budget"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Memory of the engine on a CPU.")
    parser.add_argument("--model", default=TINY, help="'tiny', a checkpoint folder, or a size with --random-weights")
    parser.add_argument("--random-weights", action="store_true", help=f"of a published size: {', '.join(SHAPES)}")
    parser.add_argument("--weights", choices=FORMATS, default="int8", help="format of our weights (default int8)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="concurrent streams (default 1)")
    parser.add_argument("--duration", type=float, default=30.0, metavar="S", help="reserved for each (default 30)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--prompts", choices=PROMPTS, default="mixed", help="of the streams (default mixed)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser


@contextmanager
def _folder(options: argparse.Namespace) -> Iterator[Path]:
    """The checkpoint on disk."""
    if not options.random_weights:
        yield resolve(options.model)
        return
    with tempfile.TemporaryDirectory() as name, random_weights(options.model, "cpu", 0) as weights:
        weights.theirs.save_pretrained(name)
        weights.tokenizer.save_pretrained(name)
        yield Path(name)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Load, make the streams, and look at this process. For a process that has done nothing else.

    Raises:
        TuttiError: the model can not be loaded, or a stream failed.
    """
    model = load_model(folder, engine_config(options.weights))
    loaded = resident()
    decoder = model.config.decoder
    streams = streams_for(options.batch, int(options.duration * model.config.frame_rate), take=0)
    rows, delay = 2 * options.batch, max(decoder.delays)
    positions = sum(2 * (stream.frames + delay) for stream in streams)
    settings = {"max_rows": rows, "kv_positions": positions, "num_threads": options.threads}
    engine = Engine(model, engine_config(options.weights, **settings))
    made = 0
    for index, stream in enumerate(streams):
        prompt = {"mixed": stream.prompt, "one": streams[0].prompt, "each": f"{streams[0].prompt[:-1]}{index}"}
        seconds = stream.frames / model.config.frame_rate
        engine.add(GenerationRequest(str(index), prompt[options.prompts], seconds, stream.seed))
    texts_bytes = 0
    while engine.has_work:
        for output in engine.step():
            if isinstance(output.news, TuttiError):
                raise output.news
            made += output.news.num_samples
        texts_bytes = max(texts_bytes, sum(each.keys.nbytes + each.values.nbytes for each in engine._cache.held_texts))
    kv = positions * kv_bytes_per_position(decoder, kv_itemsize(options.weights, "cpu"))
    weights = weight_bytes(model)
    after = resident()
    return {
        "weights": options.weights,
        "streams": options.batch,
        "audio_s": made / model.config.sample_rate,
        "prompts": options.prompts,
        "admission_s": engine.stats().text_encode,
        "memory": {
            **after,
            "loaded_peak_rss_bytes": loaded["peak_rss_bytes"],
            "weights_bytes": weights,
            "kv_bytes": kv,
            "texts_bytes": texts_bytes,
            "allowance_bytes": ALLOWANCE_BYTES,
        },
        "within_budget": after["peak_rss_bytes"] <= weights + kv + ALLOWANCE_BYTES,
    }


def weight_bytes(model: LoadedModel) -> int:
    """Of all parts, in the formats they are kept in."""
    decoder = model.decoder
    assert isinstance(decoder, CpuDecoder), "this measures the CPU kernel's weights"
    return decoder.nbytes + model.text.nbytes + model.codec.nbytes


def resident() -> dict[str, int]:
    """Bytes of this process in memory now, at most so far, and those that belong to no file."""
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name in _COUNTERS:
            found[_COUNTERS[name]] = int(rest.split()[0]) * 1024
    return found


def lines(result: dict[str, Any]) -> list[str]:
    """To be read by people."""
    memory = result["memory"]
    budget = memory["weights_bytes"] + memory["kv_bytes"] + memory["allowance_bytes"]
    return [
        f"{result['model']}, {result['weights']}, {result['streams']} streams, {result['audio_s']:g} s of audio",
        *(
            f"  {name.removesuffix('_bytes').replace('_', ' '):18} {size / 1e6:8,.0f} MB"
            for name, size in memory.items()
        ),
        f"  {1e3 * result['admission_s']:,.0f} ms for the texts of all",
        f"  peak {memory['peak_rss_bytes'] / 1e6:,.0f} MB of a budget of {budget / 1e6:,.0f} MB",
    ]


if __name__ == "__main__":
    sys.exit(main())
