"""audiocraft 1.3.0's own language model with the same weights, configured as the published MusicGen models are.

Its text encoder is transformers' T5 and its codec transformers' EnCodec, of the same weights too: audiocraft itself
loads T5 from transformers, and its codec has the same layers. It takes a static batch, like transformers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import audiocraft_import
from benchmarks.peers.transformers_generate import encode
from benchmarks.sides import Made
from benchmarks.weights import Weights
from benchmarks.workload import GUIDANCE, TOP_K, Stream
from models.config import DecoderConfig

CONDITION = "description"


class Audiocraft:
    """
    Raises:
        PeerMissingError: audiocraft is not installed where the benchmark looks for it.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self._modules = audiocraft_import.load()
        self._theirs = weights.theirs_in(dtype)
        self._config = weights.config
        with audiocraft_import.xformers():
            self._lm = _language_model(self._modules, weights, self._theirs, dtype)

    @torch.inference_mode()
    def make(self, streams: Sequence[Stream], *, greedy: bool = False) -> Made:
        """One static batch, as long as its longest stream."""
        frames, device = max(stream.frames for stream in streams), self._theirs.device
        attributes = self._modules.conditioners.ConditioningAttributes
        torch.manual_seed(streams[0].seed)
        start, cpu_start = time.perf_counter(), time.process_time()
        with audiocraft_import.xformers():
            codes: Tensor = self._lm.generate(
                conditions=[attributes(text={CONDITION: stream.prompt}) for stream in streams],
                max_gen_len=frames,
                use_sampling=not greedy,
                top_k=TOP_K,
                cfg_coef=GUIDANCE,
            )
        channels = self._config.channels
        sides = [codes[:, channel::channels].to(device) for channel in range(channels)]
        decode = self._theirs.audio_encoder.decode
        audio = [decode(each[None], audio_scales=[None] * len(streams)).audio_values for each in sides]
        samples = torch.cat(audio, dim=1).cpu()
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        return Made(
            wall_s=wall_s,
            cpu_s=cpu_s,
            first_audio_s=(wall_s,) * len(streams),
            frames=(samples.shape[-1] // self._config.codec.hop_length,) * len(streams),
            steps=frames + max(self._config.decoder.delays),
            rows_per_step=2.0 * len(streams),
            codes=tuple(codes.cpu().numpy()),
        )


def _language_model(modules: Any, weights: Weights, theirs: Any, dtype: torch.dtype) -> Any:
    """audiocraft's ``LMModel``, as its configuration for MusicGen sets it up."""
    config, device = weights.config.decoder, theirs.device
    conditioner = _text_conditioner(modules.conditioners, weights, theirs)
    fusing = {"sum": [], "prepend": [], "cross": [CONDITION], "input_interpolate": []}
    model = modules.lm.LMModel(
        pattern_provider=modules.patterns.DelayedPatternProvider(config.num_codebooks, delays=list(config.delays)),
        condition_provider=modules.conditioners.ConditioningProvider({CONDITION: conditioner}, device=device),
        fuser=modules.conditioners.ConditionFuser(fusing),
        n_q=config.num_codebooks,
        card=config.vocab_size,
        dim=config.hidden_size,
        num_heads=config.num_heads,
        hidden_scale=config.ffn_dim / config.hidden_size,
        num_layers=config.num_layers,
        norm_first=True,
        bias_proj=False,
        bias_ff=False,
        bias_attn=False,
        causal=True,
        memory_efficient=True,
        cross_attention=True,
        dropout=0.0,
        activation="gelu",
        device=device,
        dtype=dtype,
    ).to(device, dtype)
    missing, left = model.load_state_dict(language_model_state(weights.checkpoint.decoder_state, config), strict=False)
    assert not left, f"audiocraft has no place for {left}"
    assert all(name.startswith("condition_provider.") for name in missing), f"audiocraft lacks {missing}"
    return model.eval()


def _text_conditioner(conditioners: Any, weights: Weights, theirs: Any) -> nn.Module:
    """T5 and the projection, as audiocraft's own conditioner applies them."""

    class SameText(conditioners.TextConditioner):  # type: ignore[misc]
        def __init__(self) -> None:
            nn.Module.__init__(self)

        def tokenize(self, texts: Sequence[str | None]) -> dict[str, Tensor]:
            tokens = encode(weights.tokenizer, [text or "" for text in texts], theirs.device)
            empty = torch.tensor([not text for text in texts], device=theirs.device)
            return tokens | {"attention_mask": tokens["attention_mask"].masked_fill(empty[:, None], 0)}

        def forward(self, tokens: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            mask = tokens["attention_mask"]
            states = theirs.text_encoder(**tokens).last_hidden_state
            if weights.config.decoder.has_text_projection:
                states = theirs.enc_to_dec_proj(states)
            return states * mask[:, :, None].to(states.dtype), mask

    return SameText()


def language_model_state(state: Mapping[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """The same numbers under audiocraft's names; transformers splits what audiocraft holds as one matrix."""
    mapped = {f"out_norm.{part}": state[f"model.decoder.layer_norm.{part}"] for part in ("weight", "bias")}
    for codebook in range(config.num_codebooks):
        mapped[f"emb.{codebook}.weight"] = state[f"model.decoder.embed_tokens.{codebook}.weight"]
        mapped[f"linears.{codebook}.weight"] = state[f"lm_heads.{codebook}.weight"]
    for layer in range(config.num_layers):
        theirs, ours = f"model.decoder.layers.{layer}", f"transformer.layers.{layer}"
        for left, right in (("self_attn", "self_attn"), ("encoder_attn", "cross_attention")):
            joined = [state[f"{theirs}.{left}.{letter}_proj.weight"] for letter in "qkv"]
            mapped[f"{ours}.{right}.in_proj_weight"] = torch.cat(joined)
            mapped[f"{ours}.{right}.out_proj.weight"] = state[f"{theirs}.{left}.out_proj.weight"]
        for left, right in (("fc1", "linear1"), ("fc2", "linear2")):
            mapped[f"{ours}.{right}.weight"] = state[f"{theirs}.{left}.weight"]
        norms = (
            ("self_attn_layer_norm", "norm1"),
            ("encoder_attn_layer_norm", "norm_cross"),
            ("final_layer_norm", "norm2"),
        )
        for left, right in norms:
            for part in ("weight", "bias"):
                mapped[f"{ours}.{right}.{part}"] = state[f"{theirs}.{left}.{part}"]
    return mapped
