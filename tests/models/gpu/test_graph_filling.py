"""Known music worked through by our kernels, in Triton's interpreter: the tokens of the ordinary engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.engine.engine import Engine
from models.engine.graph_runner import GraphRunner
from models.engine.loader import load_model
from models.engine.model_runner import ModelRunner
from models.engine_config import EngineConfig
from models.types import CodePrompt, GenerationRequest
from tests.factories import make_checkpoint
from tests.models.engine_support import Tracks, assert_idle, drive, request
from tests.models.gpu.interpreter import NEEDS_TRITON

WINDOW, STRIDE_S = 5, 3.01 / 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("filled")
    return make_checkpoint(made, hidden=32, layers=1, heads=2, ffn=64, vocab=64, ratios=(4, 2), filters=2)


def going_on(item: GenerationRequest, frames: int) -> GenerationRequest:
    codes = np.random.default_rng(frames).integers(0, 64, (4, frames))
    return replace(item, continues=CodePrompt(codes.astype("<i8").tobytes(), 4), extend_stride_s=STRIDE_S)


CROWD = [
    going_on(request("continued", "", frames=5, seed=1), 3),
    replace(request("long", "soft strings", frames=7, seed=2), extend_stride_s=STRIDE_S),
    request("text", "ukulele", frames=2, greedy=True, guidance=1.0),
]


def made_by(kind: type, folder: Path, **config: Any) -> Tracks:
    """The crowd, on windows of five frames."""
    settings = EngineConfig(return_codes=True, num_threads=1, prefill_rows=4, max_rows=4, kv_positions=40, **config)
    model = load_model(folder, settings)
    engine = Engine(replace(model, config=replace(model.config, max_duration_s=(WINDOW + 0.01) / 50)), settings)
    assert type(engine._runner) is kind
    tracks = drive(engine, {0: CROWD[1:], 2: CROWD[:1]})
    assert all(track.is_complete for track in tracks.values())
    assert_idle(engine)
    return tracks


@NEEDS_TRITON
@pytest.mark.parametrize(("layers", "kv"), [("triton", "model"), ("torch", "int8")])
def test_our_kernels_fill_as_the_ordinary_step_does(layers: str, kv: str, folder: Path) -> None:
    """A continuation, a track of two windows and one of text, in steps that run ahead. (Eight bits of keys and values
    are other numbers: there torch's attention on the same ones is the reference.)"""
    wanted = made_by(ModelRunner, folder) if kv == "model" else made_by(GraphRunner, folder, graph=True, kv=kv)
    tracks = made_by(GraphRunner, folder, graph=True, run_ahead=1, attention="triton", layers=layers, kv=kv)
    for item in CROWD:
        made, expected = tracks[item.request_id], wanted[item.request_id]
        np.testing.assert_array_equal(made.codes(), expected.codes(), item.request_id)
        np.testing.assert_allclose(made.pcm, expected.pcm, atol=1e-5, rtol=0)
