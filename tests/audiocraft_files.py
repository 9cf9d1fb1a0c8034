"""Writes random-weight checkpoints as audiocraft exports them: its names, its configuration, its two files.

Written from audiocraft's own export and configuration, and not with the tables by which we read.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

CODEC, TEXT_ENCODER, STYLE_ENCODER = "encodec_32khz", "t5-base", "MERT-v1-95M"
_NORMS = {"self_attn_layer_norm": "norm1", "encoder_attn_layer_norm": "norm_cross", "final_layer_norm": "norm2"}


def export(folder: Path, target: Path, *, codec_inside: bool = False) -> Path:
    """The model of a transformers folder, in audiocraft's format.

    Args:
        codec_inside: keep the codec's weights in ``compression_state_dict.bin``, as of a codec one has trained oneself;
            otherwise it is named there, and lies beside in transformers format, as the published ones do.
    """
    target.mkdir(parents=True)
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    state, said = language_model(tensors, config["decoder"]), settings(config)
    if config["model_type"] == "musicgen_melody":
        state, said = OrderedDict(**state, **melody_parts(tensors)), listens_to(said, "chroma_stem")
        said["sample_rate"] = config["audio_encoder"]["sampling_rate"]
    save({"best_state": state, "xp.cfg": yaml.safe_dump(said)}, target / "state_dict.bin")
    if codec_inside:
        save(compression(tensors, config["audio_encoder"]), compression_file(target))
    else:
        save({"pretrained": f"facebook/{CODEC}"}, compression_file(target))
        part(tensors, "audio_encoder.", config["audio_encoder"], target / CODEC)
    text = part(tensors, "text_encoder.", config["text_encoder"], target / TEXT_ENCODER)
    # A T5 as it is published also writes text.
    save_file({**load_file(text), "decoder.final_layer_norm.weight": torch.ones(4)}, text)
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, target / TEXT_ENCODER)
    return target


def compression_file(folder: Path) -> Path:
    return folder / "compression_state_dict.bin"


def save(package: dict[str, Any], file: Path) -> None:
    torch.save({**package, "version": "1.3.0", "exported": True}, file)


def part(tensors: dict[str, Tensor], prefix: str, config: dict[str, Any], folder: Path) -> Path:
    """One part of a model, in a folder of its own in transformers format."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def language_model(tensors: dict[str, Tensor], config: dict[str, Any]) -> OrderedDict[str, Tensor]:
    """``best_state``."""
    state: OrderedDict[str, Tensor] = OrderedDict()
    for kind in ("weight", "bias"):
        state[f"condition_provider.conditioners.description.output_proj.{kind}"] = tensors[f"enc_to_dec_proj.{kind}"]
        state[f"out_norm.{kind}"] = tensors[f"decoder.model.decoder.layer_norm.{kind}"]
    for codebook in range(config["num_codebooks"]):
        state[f"emb.{codebook}.weight"] = tensors[f"decoder.model.decoder.embed_tokens.{codebook}.weight"]
        state[f"linears.{codebook}.weight"] = tensors[f"decoder.lm_heads.{codebook}.weight"]
    for index in range(config["num_hidden_layers"]):
        here, there = f"decoder.model.decoder.layers.{index}", f"transformer.layers.{index}"
        for ours, theirs in (("self_attn", "self_attn"), ("encoder_attn", "cross_attention")):
            if f"{here}.{ours}.q_proj.weight" not in tensors:
                continue
            matrices = [tensors[f"{here}.{ours}.{letter}_proj.weight"] for letter in "qkv"]
            state[f"{there}.{theirs}.in_proj_weight"] = torch.cat(matrices)
            state[f"{there}.{theirs}.out_proj.weight"] = tensors[f"{here}.{ours}.out_proj.weight"]
        for number in (1, 2):
            state[f"{there}.linear{number}.weight"] = tensors[f"{here}.fc{number}.weight"]
        for ours, theirs in _NORMS.items():
            for kind in ("weight", "bias"):
                if f"{here}.{ours}.{kind}" in tensors:
                    state[f"{there}.{theirs}.{kind}"] = tensors[f"{here}.{ours}.{kind}"]
    return state


def melody_parts(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a melody model has besides: the projection, and the window that torchaudio's spectrogram keeps."""
    root = "condition_provider.conditioners.self_wav"
    parts = {f"{root}.output_proj.{kind}": tensors[f"audio_enc_to_dec_proj.{kind}"] for kind in ("weight", "bias")}
    return parts | {f"{root}.chroma.spec.window": torch.hann_window(16_384)}


def compression(tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """A package with a codec's own weights, in the older spelling of weight normalisation, as audiocraft has it."""
    state = OrderedDict()
    for name, tensor in tensors.items():
        if name.startswith("audio_encoder."):
            state[_codec_name(name.removeprefix("audio_encoder."), len(config["upsampling_ratios"]))] = tensor
    return {"best_state": state, "xp.cfg": yaml.safe_dump(codec_settings(config))}


def _codec_name(name: str, num_ratios: int) -> str:
    if name.startswith("quantizer."):
        return name.replace("quantizer.layers", "quantizer.vq.layers").replace(".codebook.", "._codebook.")
    side, _, index, *middle, kind = name.replace("parametrizations.weight.original", "weight_").split(".")
    kind = {"weight_0": "weight_g", "weight_1": "weight_v"}.get(kind, kind)
    upsamples = side == "decoder" and int(index) in range(3, 3 * num_ratios + 1, 3)
    middle = [{"conv": "convtr.convtr" if upsamples else "conv.conv"}.get(each, each) for each in middle]
    return ".".join((side, "model", index, *middle, kind))


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """``xp.cfg`` of the language model, of a transformers configuration; what only training reads is left out."""
    decoder, stereo = config["decoder"], config["decoder"]["audio_channels"] == 2
    wanted = copy.deepcopy(_PUBLISHED)
    wanted["channels"] = decoder["audio_channels"]
    wanted["interleave_stereo_codebooks"]["use"] = stereo
    wanted["codebooks_pattern"]["delay"]["delays"] = [0, 0, 1, 1, 2, 2, 3, 3] if stereo else [0, 1, 2, 3]
    wanted["transformer_lm"] |= {
        "dim": decoder["hidden_size"],
        "num_heads": decoder["num_attention_heads"],
        "num_layers": decoder["num_hidden_layers"],
        "hidden_scale": decoder["ffn_dim"] / decoder["hidden_size"],
        "n_q": decoder["num_codebooks"],
        "card": decoder["vocab_size"],
    }
    return wanted


def listens_to(settings: dict[str, Any], kind: str, **changes: Any) -> dict[str, Any]:
    """The same for a model with a melody ("chroma_stem") or a "style" before the text.

    Args:
        changes: of how it is listened to, where it is otherwise than published.
    """
    wanted = copy.deepcopy(settings)
    wanted["fuser"] |= {"cross": [], "prepend": ["self_wav", "description"]}
    arguments: dict[str, dict[str, Any]] = {
        "chroma_stem": {
            "n_chroma": 12,
            "radix2_exp": 14,
            "argmax": True,
            "match_len_on_eval": False,
            "eval_wavs": None,
        },
        "style": {
            "model_name": "mert",
            "transformer_scale": "default",
            "encodec_checkpoint": "//pretrained/facebook/encodec_32khz",
            "encodec_n_q": 3,
            "length": 3.0,
            "ds_factor": 15,
            "n_q_out": 6,
            "eval_q": 3,
            "q_dropout": True,
            "bins": 1024,
            "varying_lengths": [1.5, 4.5],
            "batch_norm": True,
            "compute_mask": True,
            "num_codebooks_lm": "${transformer_lm.n_q}",
            "ds_rate_compression": 640,
            "use_middle_of_segment": False,
            "rvq_threshold_ema_dead_code": 0.1,
        },
    }
    listening = {"sample_rate": "${sample_rate}", **arguments[kind], **changes}
    wanted["conditioners"]["self_wav"] = {"model": kind, kind: listening}
    return wanted


def codec_settings(codec: dict[str, Any]) -> dict[str, Any]:
    """``xp.cfg`` of a codec, of a transformers configuration."""
    bits_per_second = 1000 * codec["target_bandwidths"][-1]
    frame_rate = codec["sampling_rate"] / torch.tensor(codec["upsampling_ratios"]).prod().item()
    bits = (codec["codebook_size"] - 1).bit_length()
    return {
        "sample_rate": codec["sampling_rate"],
        "channels": 1,
        "compression_model": "encodec",
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": "${sample_rate}",
            "channels": "${channels}",
            "causal": False,
            "renormalize": False,
        },
        "seanet": {
            "dimension": codec["hidden_size"],
            "channels": "${channels}",
            "causal": "${encodec.causal}",
            "n_filters": codec["num_filters"],
            "n_residual_layers": codec["num_residual_layers"],
            "ratios": codec["upsampling_ratios"],
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": "weight_norm",
            "norm_params": {},
            "kernel_size": codec["kernel_size"],
            "residual_kernel_size": codec["residual_kernel_size"],
            "last_kernel_size": codec["last_kernel_size"],
            "dilation_base": codec["dilation_growth_rate"],
            "pad_mode": codec["pad_mode"],
            "true_skip": True,
            "compress": codec["compress"],
            "lstm": codec["num_lstm_layers"],
            "disable_norm_outer_blocks": 0,
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
            "encoder": {},
        },
        "rvq": {"n_q": int(bits_per_second // (frame_rate * bits)), "bins": codec["codebook_size"], "decay": 0.99},
    }


_PUBLISHED: dict[str, Any] = {
    "solver": "musicgen",
    "sample_rate": 32000,
    "channels": 1,
    "compression_model_checkpoint": "//pretrained/facebook/encodec_32khz",
    "lm_model": "transformer_lm",
    "dataset": {"segment_duration": 30, "batch_size": 192},
    "interleave_stereo_codebooks": {"use": False, "per_timestep": False},
    "codebooks_pattern": {
        "modeling": "delay",
        "delay": {"delays": [0, 1, 2, 3], "flatten_first": 0, "empty_initial": 0},
        "unroll": {"flattening": [0, 1, 2, 3], "delays": [0, 0, 0, 0]},
    },
    "transformer_lm": {
        "dim": 1024,
        "num_heads": 16,
        "num_layers": 24,
        "hidden_scale": 4,
        "n_q": 4,
        "card": 2048,
        "dropout": 0.0,
        "emb_lr": None,
        "activation": "gelu",
        "norm_first": True,
        "bias_ff": False,
        "bias_attn": False,
        "bias_proj": False,
        "past_context": None,
        "causal": True,
        "custom": False,
        "memory_efficient": True,
        "attention_as_float32": False,
        "layer_scale": None,
        "positional_embedding": "sin",
        "xpos": False,
        "checkpointing": "torch",
        "weight_init": "gaussian",
        "depthwise_init": "current",
        "zero_bias_init": True,
        "norm": "layer_norm",
        "cross_attention": False,
        "qk_layer_norm": False,
        "qk_layer_norm_cross": False,
        "attention_dropout": None,
        "kv_repeat": 1,
        "two_step_cfg": False,
    },
    "attribute_dropout": {},
    "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
    "fuser": {
        "cross_attention_pos_emb": False,
        "cross_attention_pos_emb_scale": 1,
        "sum": [],
        "prepend": [],
        "cross": ["description"],
        "input_interpolate": [],
    },
    "conditioners": {
        "args": {},
        "description": {
            "model": "t5",
            "t5": {"name": "t5-base", "finetune": False, "word_dropout": 0.3, "normalize_text": False},
        },
    },
}
