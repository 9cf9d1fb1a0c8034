"""Requests and chunks between processes of different versions, as bytes: a field that is missing, and one too many."""

from __future__ import annotations

import pickle
from dataclasses import MISSING, fields
from typing import Any

import pytest

from models.types import AudioChunk, AudioPrompt, CodePrompt, GenerationRequest, SamplingParams, Tune
from models.wire_form import WireForm

SOUND = AudioPrompt(bytes(8), 2, 32000)
REQUEST = GenerationRequest(
    "t1", "a waltz", 8.0, 7, SamplingParams(top_k=5), {"generation_id": "g"}, False, SOUND, 12.0, Tune((b"ab",))
)
WIRED: list[WireForm] = [
    REQUEST,
    REQUEST.sampling,
    SOUND,
    CodePrompt(bytes(64), 4),
    Tune((b"ab",)),
    AudioChunk(0, 0, 1, 32000, bytes(4), 1, True, b"codes"),
]


class _Sent:
    """What another version sends: this class, and that state."""

    def __init__(self, cls: type[WireForm], state: Any) -> None:
        self._cls, self._state = cls, state

    def __reduce__(self) -> Any:
        return object.__new__, (self._cls,), self._state


def arrived(cls: type[WireForm], state: Any) -> Any:
    return pickle.loads(pickle.dumps(_Sent(cls, state)))


def sent(value: WireForm) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The state that this version sends."""
    state: tuple[dict[str, Any], tuple[str, ...]] = value.__reduce_ex__(5)[2]  # type: ignore[assignment]
    return state


@pytest.mark.parametrize("value", WIRED, ids=lambda value: type(value).__name__)
def test_everything_arrives_as_it_was_sent(value: WireForm) -> None:
    back = pickle.loads(pickle.dumps(value))
    assert back == value
    assert back.unknown == ()
    assert all(getattr(back, each.name) == getattr(value, each.name) for each in fields(value))  # type: ignore[arg-type]
    assert "_unknown" not in repr(back)


def test_fields_the_sender_does_not_know_have_their_defaults() -> None:
    values, droppable = sent(REQUEST)
    for name in ("sampling", "trace", "live", "melody"):
        del values[name]
    back = arrived(GenerationRequest, (values, droppable))
    assert back == GenerationRequest("t1", "a waltz", 8.0, 7, continues=SOUND, extend_stride_s=12.0)
    assert back.trace == {}
    assert back.live
    assert back.sampling == SamplingParams()


def test_a_field_without_a_default_can_not_be_left_out() -> None:
    values, droppable = sent(REQUEST)
    del values["prompt"]
    with pytest.raises(pickle.UnpicklingError, match="GenerationRequest came without 'prompt'"):
        arrived(GenerationRequest, (values, droppable))


def test_the_list_of_values_of_earlier_versions_is_understood() -> None:
    ordered = [getattr(REQUEST, each.name) for each in fields(REQUEST)]
    assert arrived(GenerationRequest, ordered) == REQUEST
    assert arrived(GenerationRequest, ordered[:5]) == GenerationRequest("t1", "a waltz", 8.0, 7, REQUEST.sampling)


def test_a_field_too_many_is_dropped_if_it_says_nothing() -> None:
    values, droppable = sent(REQUEST)
    back = arrived(GenerationRequest, ({**values, "echo": None}, (*droppable, "echo")))
    assert back == REQUEST
    assert back.unknown == ()


def test_a_field_too_many_that_says_something_is_noted() -> None:
    values, droppable = sent(REQUEST)
    min_p, unimportant = sent(REQUEST.sampling)
    values["sampling"] = arrived(SamplingParams, ({**min_p, "min_p": 0.1}, unimportant))
    back = arrived(GenerationRequest, ({**values, "echo": "hall", "dither": 2}, droppable))
    assert back == REQUEST
    assert back.unknown == ("dither", "echo", "sampling.min_p")


def test_a_default_is_sent_all_the_same() -> None:
    """Another version's may be another one."""
    values, droppable = sent(GenerationRequest("t1", "", 1.0))
    assert values["extend_stride_s"] == 18.0
    assert "extend_stride_s" in droppable
    assert "duration_s" not in droppable
    newer = arrived(GenerationRequest, ({**values, "extend_stride_s": 10.0}, droppable))
    assert newer.extend_stride_s == 10.0


def test_fields_that_came_after_the_first_version_have_defaults() -> None:
    """Those without were there from the beginning, and so they are sent by every version."""
    without = {
        type(value).__name__: [
            each.name
            for each in fields(value)  # type: ignore[arg-type]
            if each.default is MISSING and each.default_factory is MISSING
        ]
        for value in WIRED
    }
    assert without == {
        "GenerationRequest": ["request_id", "prompt", "duration_s"],
        "SamplingParams": [],
        "AudioPrompt": ["pcm", "channels", "sample_rate"],
        "CodePrompt": ["codes", "num_codebooks"],
        "Tune": ["windows"],
        "AudioChunk": ["index", "first_sample", "channels", "sample_rate", "pcm", "total_samples", "is_last"],
    }
