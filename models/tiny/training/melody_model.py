"""The stereo and melody model in training: text encoder, prefix and decoder, all named as transformers names them.

A prefix of 235 frames of chroma and the text stands before the codes, and there is no cross-attention. The chroma comes
first, so in a batch without melodies, where it is the same in every row, it is computed once for all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, one_hot, scaled_dot_product_attention
from transformers import MusicgenMelodyDecoderConfig, MusicgenMelodyForCausalLM, T5EncoderModel
from transformers.models.musicgen_melody.modeling_musicgen_melody import MusicgenMelodyDecoderLayer

from models.conditioning.chroma import FRAMES as CHROMA_FRAMES
from models.conditioning.chroma import NUM_CLASSES
from models.tiny.composer.score import STEMS
from models.tiny.composer.stereo import CHANNELS, SIDES
from models.tiny.training.fewer_codes import FEWER, FewerCodes
from models.tiny.training.train_text import text_config

K = CHANNELS * len(STEMS)
LAYERS = (0, 2, 3)  # of the mono model's four: the second is the one it does best without
KeyValue = tuple[Tensor, Tensor]
# Left to the loss of the codes alone, no head finds the place of the tune that is due: it would have to divide its own
# position by 6.4, and 500 steps told nothing of the melody. So one head is told where to look (the idea of Tachibana et
# al., "Efficiently trainable text-to-speech system … with guided attention", 2017); it knows how long the text was from
# the layer before.
GUIDED_LAYER, GUIDED_HEAD = 1, 0
STEPS_PER_CHROMA = 4096 / 640
_LEEWAY = 0.8  # frames of chroma: standard deviation of where it may look


def melody_decoder_config() -> MusicgenMelodyDecoderConfig:
    return MusicgenMelodyDecoderConfig(
        vocab_size=FEWER, hidden_size=256, num_hidden_layers=len(LAYERS), num_attention_heads=4, ffn_dim=1024,
        num_codebooks=K, audio_channels=CHANNELS, max_position_embeddings=2048, activation_function="gelu", dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, scale_embedding=False, pad_token_id=FEWER, bos_token_id=FEWER,
        tie_word_embeddings=False,
    )  # fmt: skip


class TinyMelody(nn.Module):
    """As transformers' MusicgenMelodyForConditionalGeneration, without its codec."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = T5EncoderModel(text_config())
        self.enc_to_dec_proj = nn.Linear(128, 256)
        self.audio_enc_to_dec_proj = nn.Linear(NUM_CLASSES, 256)
        self.decoder = MusicgenMelodyForCausalLM(melody_decoder_config())

    def forward(self, steps: Tensor, text: Tensor, tokens: Tensor, melody: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the next step, as if each row had been computed alone, at its own length of text.

        Args:
            steps: int64 [B, 8, S]; text: from `read`; tokens: bool [B, L], where there is text.
            melody: pitch classes, int64 [B, 235], or [1, 235] for all rows.

        Returns:
            float [B, 8, S, V]; and how far the guided head is from looking at the melody where it is due, in nats, [B].
        """
        decoder = self.decoder.model.decoder
        codes = torch.stack([table(steps[:, q]) for q, table in enumerate(decoder.embed_tokens)]).sum(0)
        places = self._places(tokens, steps.shape[2])
        tune = self.audio_enc_to_dec_proj(one_hot(melody, NUM_CLASSES).to(codes.dtype))
        first = tune + decoder.embed_positions.weights[:CHROMA_FRAMES]
        rest = torch.cat([text, codes], dim=1) + decoder.embed_positions.weights[places]
        mask = _causal(tokens, steps.shape[2])
        astray = torch.zeros(len(steps))
        for index, layer in enumerate(decoder.layers):
            first, known = _layer(layer, first, None, None)
            if index == GUIDED_LAYER:
                astray = _astray(layer, rest, mask, known[0], text.shape[1])
            rest, _ = _layer(layer, rest, mask, known)
        hidden = decoder.layer_norm(rest[:, text.shape[1] :])
        heads = torch.stack([head.weight for head in self.decoder.lm_heads])
        logits: Tensor = torch.einsum("bsd,kvd->bksv", hidden, heads)
        return logits, astray

    def read(self, ids: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """The text's part of the prefix, float [B, L, 256]; zeros where there is none or it was dropped, as in the null
        condition: ids int64 and tokens bool [B, L], keep bool [B]."""
        states = self.text_encoder(input_ids=ids, attention_mask=tokens.long()).last_hidden_state
        projected: Tensor = self.enc_to_dec_proj(states) * (tokens & keep[:, None])[:, :, None]
        return projected

    @staticmethod
    def _places(tokens: Tensor, steps: int) -> Tensor:
        """Positions of text and codes: the codes of each row follow its own text at once, int64 [B, L + S]."""
        text = torch.arange(tokens.shape[1]).expand_as(tokens)
        codes = tokens.sum(1, keepdim=True) + torch.arange(steps)
        return CHROMA_FRAMES + torch.cat([text, codes], dim=1)

    @torch.no_grad()
    def start_from(self, mono: dict[str, Tensor], fewer: FewerCodes) -> None:
        """Take over what the mono model has learnt: it then goes on as the mono model does without a prompt.

        Args:
            mono: the state of `TinyMusicGen`.
        """
        own = {name.removeprefix("text_encoder."): v for name, v in mono.items() if name.startswith("text_encoder.")}
        self.text_encoder.load_state_dict(own)
        for index, old in enumerate(LAYERS):
            layer = self.decoder.model.decoder.layers[index]
            layer.load_state_dict(
                {name: mono[f"decoder.model.decoder.layers.{old}.{name}"] for name in layer.state_dict()}
            )
        norm = self.decoder.model.decoder.layer_norm
        norm.load_state_dict({name: mono[f"decoder.model.decoder.layer_norm.{name}"] for name in norm.state_dict()})
        special = torch.tensor([mono["decoder.model.decoder.embed_tokens.0.weight"].shape[0] - 1])
        for q in range(K):
            stem, side = divmod(q, CHANNELS)
            sides, kept = SIDES[STEMS[stem]], fewer.kept[stem]
            # A stem in the middle is read twice, so by halves; one on a side is read there.
            table = mono[f"decoder.model.decoder.embed_tokens.{stem}.weight"][torch.cat([kept, special])]
            self.decoder.model.decoder.embed_tokens[q].weight.copy_(table * sides[side] / sum(sides))
            self.decoder.lm_heads[q].weight.copy_(mono[f"decoder.lm_heads.{stem}.weight"][kept])
        loud = sum(table.weight for table in self.decoder.model.decoder.embed_tokens).std()
        for projection in (self.enc_to_dec_proj, self.audio_enc_to_dec_proj):
            # The prefix is as loud as the codes: encoded text is about 1, and of the chroma one input is 1.
            std = loud / (128**0.5 if projection is self.enc_to_dec_proj else 1.0)
            nn.init.normal_(projection.weight, std=float(std))
            nn.init.zeros_(projection.bias)


def _causal(tokens: Tensor, steps: int) -> Tensor:
    """What text and codes may attend to: bool [B, 1, L + S, 235 + L + S]."""
    batch, length = tokens.shape
    there = torch.cat([tokens, torch.ones(batch, steps, dtype=torch.bool)], dim=1)
    before = torch.ones(length + steps, length + steps, dtype=torch.bool).tril()
    own = before & (there[:, None] | torch.eye(length + steps, dtype=torch.bool))  # a padded row sees itself: no NaN
    return torch.cat([torch.ones(batch, length + steps, CHROMA_FRAMES, dtype=torch.bool), own], dim=2)[:, None]


def _astray(layer: MusicgenMelodyDecoderLayer, x: Tensor, mask: Tensor, tune: Tensor, length: int) -> Tensor:
    """Cross entropy of the guided head's attention over the chroma, against where the codes are: float [B].

    Args:
        x, mask: as in `_layer`; tune: the chroma's keys, [B or 1, heads, 235, head]; length: of the text.
    """
    attention, normed = layer.self_attn, layer.self_attn_layer_norm(x)
    own = slice(GUIDED_HEAD * attention.head_dim, (GUIDED_HEAD + 1) * attention.head_dim)
    query, key = normed[:, length:] @ attention.q_proj.weight[own].T, normed @ attention.k_proj.weight[own].T
    keys = torch.cat([tune[:, GUIDED_HEAD].expand(len(x), -1, -1), key], dim=1)
    scores = (query @ keys.transpose(1, 2)).float() * attention.head_dim**-0.5
    looks = scores.masked_fill(~mask[:, 0, length:], -torch.inf).log_softmax(-1)[:, :, :CHROMA_FRAMES]
    due = torch.arange(query.shape[1])[:, None] / STEPS_PER_CHROMA
    wanted = (-((torch.arange(CHROMA_FRAMES) - due) ** 2) / (2 * _LEEWAY**2)).softmax(-1)
    astray: Tensor = -(wanted * looks).sum(-1).mean(1)
    return astray


def _layer(
    layer: MusicgenMelodyDecoderLayer, x: Tensor, mask: Tensor | None, known: KeyValue | None
) -> tuple[Tensor, KeyValue]:
    """One layer over x, float [B, S, D]; ``known`` are keys and values before it, of as many rows or of one."""
    attention, batch = layer.self_attn, x.shape[0]
    normed = layer.self_attn_layer_norm(x)
    query, key, value = (
        projection(normed).unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if known is not None:
        key = torch.cat([known[0].expand(batch, -1, -1, -1), key], dim=2)
        value = torch.cat([known[1].expand(batch, -1, -1, -1), value], dim=2)
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
    x = x + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    x = x + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(x))))
    return x, (key, value)
