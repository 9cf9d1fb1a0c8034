"""Which runner steps which decoder."""

from __future__ import annotations

from typing import cast

from models.engine.graph_runner import GraphRunner
from models.engine.loader import LoadedModel
from models.engine.model_runner import ModelRunner
from models.engine.runner import Runner
from models.engine.stats import StatsCollector
from models.engine_config import EngineConfig
from models.musicgen.rows import RowCache
from models.musicgen.static_cache import StaticKVCache
from models.musicgen.static_decoder import StaticDecoder


def runner_for(model: LoadedModel, config: EngineConfig, cache: RowCache, stats: StatsCollector) -> Runner:
    """Captured steps for a static decoder, ordinary ones for any other; ready for the first step."""
    decoder, shape = model.decoder, model.config
    max_steps = shape.longest_prefix + shape.max_frames + max(shape.decoder.delays)
    if isinstance(decoder, StaticDecoder):
        return GraphRunner(
            decoder,
            model.text,
            cast(StaticKVCache, cache),
            stats,
            max_slots=config.max_rows,
            max_steps=max_steps,
            device=config.device,
            run_ahead=config.run_ahead,
            fill_rows=config.prefill_rows,
        )
    return ModelRunner(
        decoder,
        model.text,
        cache,
        stats,
        max_slots=config.max_rows,
        max_steps=max_steps,
        device=config.device,
        sound=model.sound,
    )
