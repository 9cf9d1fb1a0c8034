"""The engine with the graph runner in it, and the model that takes."""

from __future__ import annotations

from typing import cast

import torch

from models.checkpoint import Checkpoint
from models.conditioning.text import TextConditioner
from models.encodec.decoder import EncodecDecoder
from models.engine.audio_stream import AudioStage
from models.engine.engine import Engine
from models.engine.graph_runner import GraphRunner
from models.engine.loader import LoadedModel, torch_dtype
from models.engine.step import StepPlan, StepResult
from models.engine_config import EngineConfig
from models.musicgen.interface import Decoder
from models.musicgen.rows import RowHandle
from models.musicgen.static_cache import StaticKVCache
from models.musicgen.static_decoder import StaticDecoder, StaticOptions


def graph_model(checkpoint: Checkpoint, device: str, dtype: torch.dtype, options: StaticOptions) -> LoadedModel:
    """The four parts of a checkpoint, its transformer as a static step."""
    return LoadedModel(
        config=checkpoint.config,
        decoder=cast(Decoder, StaticDecoder.from_checkpoint(checkpoint, device, dtype, options)),
        text=TextConditioner.from_checkpoint(checkpoint, device),
        codec=EncodecDecoder.from_checkpoint(checkpoint, device, dtype),
    )


class GraphEngine(Engine):
    """The engine, its steps captured and started ahead.

    Args:
        model: of `graph_model`; engines may share it one after the other.
        run_ahead: see `GraphRunner`.
    """

    def __init__(self, model: LoadedModel, config: EngineConfig, run_ahead: int = 2) -> None:
        super().__init__(model, config)
        decoder, cache = cast(StaticDecoder, model.decoder), cast(StaticKVCache, self._cache)
        self._graphs = GraphRunner(
            decoder,
            model.text,
            model.config.decoder,
            cache,
            self._stats,
            max_slots=config.max_rows,
            max_steps=model.config.max_frames + self._largest_delay,
            device=config.device,
            run_ahead=run_ahead,
        )
        self._runner = self._graphs  # type: ignore[assignment]  # the same verbs
        self._audio = AudioStage(model.codec, model.config, config, self._graphs, self._graphs.lag)

    def _decode_audio(self, plan: StepPlan[RowHandle], result: StepResult) -> None:
        with self._graphs.audio():
            super()._decode_audio(plan, result)


def engine_config(device: str, dtype: torch.dtype, **settings: object) -> EngineConfig:
    """Decoder and codec in one type."""
    name = str(dtype).removeprefix("torch.")
    assert torch_dtype(name) == dtype, f"{dtype} has no name: this is a bug"
    return EngineConfig(device=device, dtype=name, codec_dtype=name, **settings)  # type: ignore[arg-type]
