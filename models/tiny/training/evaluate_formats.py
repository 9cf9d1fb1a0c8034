"""What int8 or int4 weights cost: error of the logits, tokens that differ, prompts that are followed, against fp32.

``python -m models.tiny.training.evaluate_formats --checkpoint models/tiny/checkpoint --codebooks codebooks.npz``
Logits are compared under the same past (fp32's own codes), so one early difference does not count for ever. Prompts
are judged as in `evaluate`, on clips that the serving engine made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from models.checkpoint import Checkpoint, load_checkpoint
from models.conditioning.text import TextConditioner
from models.engine.engine import Engine
from models.engine.loader import build_decoder, build_model
from models.engine_config import WEIGHT_FORMATS, EngineConfig
from models.errors import TuttiError
from models.musicgen.interface import StepDecoder
from models.tiny.composer.captions import full_prompt
from models.tiny.training import arguments
from models.tiny.training.analysis import Array
from models.tiny.training.evaluate import ATTRIBUTES, Codec, Listener, held_out_pieces, rates
from models.types import GenerationRequest

_GUIDANCE = 3.0


class Maker:
    """The serving engine of one format, on a CPU."""

    def __init__(self, checkpoint: Checkpoint, weights: str) -> None:
        self._config = EngineConfig(weights=weights, max_rows=16, max_queue=1000, return_codes=True)
        self._model = build_model(checkpoint, self._config)

    def make(self, prompts: Sequence[str], seconds: float) -> tuple[list[Array], list[Tensor]]:
        """Clips, float64 [samples], and their codes, int64 [K, frames]."""
        engine = Engine(self._model, self._config)
        for index, prompt in enumerate(prompts):
            engine.add(GenerationRequest(str(index), prompt, seconds, seed=index))
        pcm: dict[str, bytes] = {str(index): b"" for index in range(len(prompts))}
        codes: dict[str, Tensor] = {}
        while engine.has_work:
            for output in engine.step():
                if isinstance(output.news, TuttiError):
                    raise output.news
                pcm[output.request_id] += output.news.pcm
                if output.news.codes is not None:
                    flat = np.frombuffer(output.news.codes, "<i8").copy()
                    codes[output.request_id] = torch.from_numpy(
                        flat.reshape(self._model.config.decoder.num_codebooks, -1)
                    )
        clips: list[Array] = [np.frombuffer(made, "<f4").astype(np.float64) for made in pcm.values()]
        return clips, [codes[name] for name in pcm]


@torch.inference_mode()
def guided_logits(decoder: StepDecoder, text: Tensor, codes: Tensor) -> Tensor:
    """Logits with guidance, float32 [frames, K, V], under the given past, int64 [K, frames]."""
    config, frames = decoder.config, codes.shape[1]
    delayed = torch.full((frames, config.num_codebooks), config.special_token)
    for codebook, delay in enumerate(config.delays):
        delayed[delay + 1 :, codebook] = codes[codebook, : frames - delay - 1]
    cache = decoder.new_cache(2 * frames, 2)
    rows = [cache.allocate(frames) for _ in range(2)]
    cache.set_cross(rows[0], decoder.cross_kv(decoder.project_text(text)))
    view, made = cache.view(rows), []
    for step in range(frames):
        both = decoder.forward_step(delayed[step].expand(2, -1), torch.full((2,), step), view)
        made.append(both[1] + (both[0] - both[1]) * _GUIDANCE)
    return torch.stack(made)


def compare(checkpoint: Checkpoint, prompts: Sequence[str], codes: Sequence[Tensor]) -> dict[str, tuple[float, float]]:
    """For each format, relative error of the guided logits, and the share of likeliest tokens that are fp32's."""
    text = TextConditioner.from_checkpoint(checkpoint)
    decoders = {name: build_decoder(checkpoint, EngineConfig(weights=name)) for name in WEIGHT_FORMATS}
    errors: dict[str, list[float]] = {name: [] for name in decoders}
    agreed: dict[str, list[float]] = {name: [] for name in decoders}
    for prompt, past in zip(prompts, codes, strict=True):
        encoded = text.encode(prompt)
        exact = guided_logits(decoders["fp32"], encoded, past)
        for name, decoder in decoders.items():
            logits = guided_logits(decoder, encoded, past)
            errors[name].append(float((logits - exact).norm() / exact.norm()))
            agreed[name].append(float((logits.argmax(-1) == exact.argmax(-1)).float().mean()))
    return {name: (float(np.mean(errors[name])), float(np.mean(agreed[name]))) for name in decoders}


def main() -> None:
    args = arguments.parse(__doc__, ["checkpoint", "codebooks"], fit=200, prompts=60, seconds=10.0, pasts=10, threads=2)
    checkpoint = load_checkpoint(Path(args.checkpoint))
    pieces = [piece for piece in held_out_pieces(args.prompts * 2) if not piece.builds][: args.prompts]
    prompts = [full_prompt(piece, np.random.default_rng([piece.seed, 7])) for piece in pieces]
    model = MusicgenForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    listener = Listener(Codec(model, args.codebooks), int(args.seconds * 50), args.fit)
    made = {name: Maker(checkpoint, name).make(prompts, args.seconds) for name in WEIGHT_FORMATS}
    figures = compare(checkpoint, prompts[: args.pasts], made["fp32"][1][: args.pasts])
    print("| weights | logit error | same likeliest token | " + " | ".join(ATTRIBUTES) + " |")
    print("|---|---|---|" + "---|" * len(ATTRIBUTES))
    for name, (clips, _) in made.items():
        followed = rates(listener, clips, pieces)
        error, same = figures[name]
        cells = " | ".join(f"{100 * followed[each]:.0f} %" for each in ATTRIBUTES)
        print(f"| {name} | {100 * error:.2g} % | {100 * same:.1f} % | {cells} |", flush=True)


if __name__ == "__main__":
    main()
