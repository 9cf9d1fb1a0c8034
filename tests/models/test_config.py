"""Configuration: what transformers writes is read as transformers reads it, and what is unknown is refused by name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import EncodecConfig, MusicgenConfig

from models.config import DecoderConfig, ModelConfig
from models.engine_config import ATTENTION_BACKENDS, KV_FORMATS, LAYER_KERNELS, EngineConfig
from models.errors import CheckpointError, InvalidRequestError
from tests.factories import codec_config, decoder_config

Writer = Callable[[dict[str, Any]], Path]


@pytest.fixture
def content() -> dict[str, Any]:
    """A good config.json, stereo for a change."""
    decoder = decoder_config(64, 2, 4, 128, stereo=True, vocab=64)
    codec = codec_config(64, 4, 16, (8, 5, 4, 4), 2, "reflect")
    config = MusicgenConfig(text_encoder={"model_type": "t5", "d_model": 32}, audio_encoder=codec, decoder=decoder)
    loaded: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return loaded


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def writer(content: dict[str, Any]) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(content))
        return tmp_path

    return writer


def test_a_good_file(content: dict[str, Any], write: Writer) -> None:
    config = ModelConfig.from_folder(write(content))
    assert (config.channels, config.sample_rate, config.frame_rate, config.max_frames) == (2, 32_000, 50, 1500)
    assert config.decoder.delays == (0, 0, 1, 1, 2, 2, 3, 3)
    assert (config.decoder.num_codebooks, config.codec.num_quantizers, config.codec.hop_length) == (8, 4, 640)
    assert (config.decoder.head_dim, config.decoder.special_token) == (16, 64)
    assert config.text.hidden_size == config.decoder.text_hidden_size == 32
    assert config.text.max_tokens == 512
    assert hash(config) == hash(ModelConfig.from_folder(write(content)))


def test_what_is_left_out_has_the_default_of_transformers(write: Writer) -> None:
    sections = {"text_encoder": "t5", "audio_encoder": "encodec", "decoder": "musicgen_decoder"}
    content: dict[str, Any] = {name: {"model_type": kind} for name, kind in sections.items()}
    content["audio_encoder"] |= {"target_bandwidths": [2.2], "codebook_size": 2048, "sampling_rate": 32_000}
    content["audio_encoder"] |= {"upsampling_ratios": [8, 5, 4, 4]}
    config = ModelConfig.from_folder(write({"model_type": "musicgen", **content}))
    theirs = EncodecConfig(**content["audio_encoder"])
    for name in ("num_quantizers", "frame_rate", "hop_length", "codebook_dim", "num_filters", "pad_mode", "compress"):
        assert getattr(config.codec, name) == getattr(theirs, name), name
    assert (config.codec.num_lstm_layers, config.codec.use_causal_conv) == (2, True)
    assert config.decoder == DecoderConfig(1024, 24, 16, 4096, 4, 2048, 1, 512)
    assert config.decoder.delays == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (
            "model_type",
            "audiogen",
            "'audiogen' is not supported, it must be 'musicgen' or 'musicgen_melody'",
        ),
        ("model_type", "musicgen_melody", "decoder.model_type = 'musicgen_decoder'"),
        ("decoder", None, "no section 'decoder'"),
        ("audio_encoder", [], "no section 'audio_encoder'"),
        ("text_encoder", None, "no section 'text_encoder'"),
        ("text_encoder.model_type", "umt5", "text_encoder.model_type = 'umt5'"),
        ("text_encoder.d_model", "wide", "text_encoder.d_model = 'wide'"),
        ("decoder.model_type", "gpt2", "decoder.model_type = 'gpt2'"),
        ("decoder.activation_function", "relu", "decoder.activation_function = 'relu'"),
        ("decoder.scale_embedding", True, "decoder.scale_embedding = True"),
        ("decoder.cross_attention_hidden_size", 32, "decoder.cross_attention_hidden_size = 32"),
        ("decoder.tie_word_embeddings", True, "decoder.tie_word_embeddings = True"),
        ("decoder.rope_theta", 1e4, "decoder.rope_theta = 10000.0"),
        ("decoder.hidden_size", "64", "decoder.hidden_size = '64'"),
        ("decoder.hidden_size", True, "decoder.hidden_size = True"),
        ("decoder.hidden_size", 66, "hidden_size = 66"),
        ("decoder.hidden_size", 2, "hidden_size = 2"),
        ("decoder.num_hidden_layers", 0, "num_layers = 0"),
        ("decoder.audio_channels", 3, "audio_channels = 3"),
        ("decoder.num_codebooks", 7, "num_codebooks = 7"),
        ("decoder.num_codebooks", 4, "num_codebooks = 4 makes 2 per channel"),
        ("decoder.vocab_size", 32, "decoder.pad_token_id = 64 must be vocab_size = 32"),
        ("decoder.bos_token_id", 0, "decoder.bos_token_id = 0"),
        ("audio_encoder.model_type", "dac", "audio_encoder.model_type = 'dac'"),
        ("audio_encoder.chunk_length_s", 1.0, "audio_encoder.chunk_length_s = 1.0"),
        ("audio_encoder.snake", 1, "audio_encoder.snake = 1"),
        ("audio_encoder.upsampling_ratios", 640, "audio_encoder.upsampling_ratios = 640"),
        ("audio_encoder.upsampling_ratios", [8, "5"], "audio_encoder.upsampling_ratios = '5'"),
        ("audio_encoder.upsampling_ratios", [], "audio_encoder.upsampling_ratios = []"),
        ("audio_encoder.upsampling_ratios", [8, 0], "audio_encoder.upsampling_ratios = [8, 0]"),
        ("audio_encoder.sampling_rate", 32_001, "sampling_rate = 32001"),
        ("audio_encoder.sampling_rate", 640 * 140, "more than the decoder's 4096 positions"),
        ("audio_encoder.codebook_size", 32, "differs from the codec's codebook_size = 32"),
        ("audio_encoder.pad_mode", 3, "audio_encoder.pad_mode = 3"),
    ],
)
def test_what_is_not_supported_is_named(
    path: str, value: object, complaint: str, content: dict[str, Any], write: Writer
) -> None:
    section, _, key = path.rpartition(".")
    (content[section] if section else content)[key] = value
    if path == "audio_encoder.sampling_rate" or path == "audio_encoder.codebook_size":
        content["audio_encoder"]["target_bandwidths"] = [_bandwidth(content["audio_encoder"])]
    with pytest.raises(CheckpointError) as caught:
        ModelConfig.from_folder(write(content))
    assert complaint in str(caught.value)


def _bandwidth(codec: dict[str, Any]) -> float:
    """kbit/s of four codebooks, so that only the changed value does not fit."""
    frame_rate = -(-codec["sampling_rate"] // 640)
    bits = (codec["codebook_size"] - 1).bit_length()
    return float(4 * frame_rate * (bits + 0.1) / 1000)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        ModelConfig.from_folder(tmp_path)
    file = tmp_path / "config.json"
    for broken in ("{", "", "[1]", "nonsense", '{"model_type":', "\x00"):
        file.write_text(broken)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            ModelConfig.from_folder(tmp_path)
    file.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(CheckpointError, match="can not be read"):
        ModelConfig.from_folder(tmp_path)


def test_an_engine_needs_no_settings(content: dict[str, Any], write: Writer) -> None:
    model = ModelConfig.from_folder(write(content))
    assert EngineConfig().kv_positions_for(model) == 16 * 1504
    assert EngineConfig(kv_positions=99).kv_positions_for(model) == 99
    EngineConfig(device="cuda:1", dtype="bfloat16", num_threads=2, max_queue=0, chunk_growth=1, return_codes=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "tpu"),
        ("device", "cuda:x"),
        ("device", 0),
        ("dtype", "float16"),
        ("codec_dtype", "int8"),
        ("max_rows", 0),
        ("max_rows", 2.5),
        ("max_rows", True),
        ("max_queue", -1),
        ("kv_positions", 0),
        ("num_threads", 0),
        ("first_chunk_s", 0.0),
        ("first_chunk_s", float("nan")),
        ("first_chunk_s", "0.2"),
        ("max_chunk_s", 0.1),
        ("chunk_growth", 0.5),
        ("return_codes", "yes"),
        ("graph", "cuda"),
        ("attention", "flash"),
        ("layers", "cuda"),
        ("kv", "int4"),
        ("run_ahead", -1),
        ("text_positions", 0),
    ],
)
def test_an_engine_setting_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=name) as caught:
        EngineConfig(**{name: value})
    assert caught.value.param == name
    assert repr(value) in str(caught.value)


def test_an_unknown_engine_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="max_row"):
        EngineConfig(max_row=3)  # type: ignore[call-arg]


def test_a_captured_step_takes_all_that_goes_with_it() -> None:
    EngineConfig(graph=True)
    on_gpu: dict[str, Any] = {"device": "cuda", "graph": True, "dtype": "bfloat16", "weights": "bf16"}
    for attention, layers, kv in itertools.product(ATTENTION_BACKENDS, LAYER_KERNELS, KV_FORMATS):
        EngineConfig(**on_gpu, attention=attention, layers=layers, kv=kv, run_ahead=3, text_positions=9)


@pytest.mark.parametrize(
    ("name", "value"),
    [("attention", "xformers"), ("layers", "triton"), ("kv", "int8"), ("run_ahead", 2), ("text_positions", 2048)],
)
def test_what_only_a_captured_step_has_is_refused_without_one(name: str, value: Any) -> None:
    """Left to itself it would have no effect, and nobody would notice."""
    with pytest.raises(InvalidRequestError, match="without graph: true") as caught:
        EngineConfig(**{"device": "cuda", name: value})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"graph": True, "weights": "int4"}, "int8 with graph: true"),
        ({"device": "cuda", "weights": "int8"}, "int8 with graph: true"),
        ({"device": "cuda", "weights": "int4"}, "fp32 or bf16 on a GPU"),
    ],
)
def test_weights_that_nobody_computes_with_are_refused(settings: dict[str, Any], advice: str) -> None:
    with pytest.raises(InvalidRequestError, match=advice):
        EngineConfig(**settings)
    EngineConfig(device="cuda", graph=True, weights="int8")


@pytest.mark.parametrize(("name", "value"), [("attention", "triton"), ("layers", "triton"), ("attention", "xformers")])
def test_kernels_for_a_gpu_are_refused_on_a_cpu(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InvalidRequestError, match="on a CPU") as caught:
        EngineConfig(graph=True, **{name: value})  # type: ignore[arg-type]
    assert caught.value.param == name


def test_triton_on_a_cpu_is_for_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    EngineConfig(graph=True, attention="triton", layers="triton")
