"""The text encoder against transformers' own, with random weights of every kind of T5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from models.conditioning.t5 import TIED, T5Encoder, T5Settings, relative_buckets

SMALL: dict[str, Any] = {"vocab_size": 97, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 3, "num_heads": 4}


def theirs_and_ours(**more: Any) -> tuple[Any, T5Encoder]:
    torch.manual_seed(3)
    config = T5Config(**SMALL, **more)
    theirs = T5EncoderModel(config).eval()
    for parameter in theirs.parameters():  # as they are set up norms are ones, and the bias is near nothing
        parameter.data.normal_(std=0.3)
    settings = T5Settings.of(config.to_dict())
    state = {name: tensor for name, tensor in theirs.state_dict().items() if name != TIED}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == settings.shapes()
    return theirs, T5Encoder(settings, state)


@pytest.mark.parametrize("projection", ["relu", "gelu", "gated-gelu", "gated-silu", "gated-gelu_new"])
@torch.inference_mode()
def test_it_computes_what_transformers_computes(projection: str) -> None:
    theirs, ours = theirs_and_ours(feed_forward_proj=projection)
    for length in (1, 2, 17, 300):  # past the largest distance
        tokens = torch.randint(SMALL["vocab_size"], (length,)).tolist()
        wanted = theirs(input_ids=torch.tensor([tokens])).last_hidden_state[0]
        encoded = ours.encode(tokens)
        assert encoded.shape == (length, SMALL["d_model"])
        torch.testing.assert_close(encoded, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (64, 512)])
def test_distances_fall_into_the_same_buckets(buckets: int, max_distance: int) -> None:
    theirs, ours = theirs_and_ours(relative_attention_num_buckets=buckets, relative_attention_max_distance=max_distance)
    attention = theirs.encoder.block[0].layer[0].SelfAttention
    distances = torch.arange(-600, 601)
    wanted = attention._relative_position_bucket(distances, num_buckets=buckets, max_distance=max_distance)
    assert torch.equal(relative_buckets(distances, ours.settings), wanted)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"num_heads": 0}, "num_heads = 0, not a whole number of at least 1"),
        ({"d_model": True}, "d_model = True"),
        ({"d_ff": 2.5}, r"d_ff = 2\.5"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon = 'small'"),
        ({"feed_forward_proj": "twice-relu"}, "neither an activation nor 'gated-'"),
        ({"feed_forward_proj": 3}, "activation ''"),
        ({"feed_forward_proj": "gated-tanh"}, "activation 'tanh', not one of relu"),
        ({"dense_act_fn": "swish"}, "activation 'swish'"),
        ({"relative_attention_num_buckets": 6}, "must be a multiple of 4"),
        ({"relative_attention_max_distance": 8}, "relative_attention_max_distance = 8"),
    ],
)
def test_a_setting_that_is_none_of_t5s_is_named(changed: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        T5Settings.of({**SMALL, **changed})
