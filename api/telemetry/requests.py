"""What routes and middleware leave at a request for its counting: whether it was let in, and what it asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from api.generations.view import Created
from api.telemetry.player import PREBUFFER_S
from api.telemetry.recorder import Subject, Telemetry, exemplar
from api.telemetry.stream_record import StreamRecord
from api.tracing import current_trace_id

_ACCEPTED = "generation_accepted"
_MODE = "generation_mode"
_MODEL = "generation_model"


def note_create(state: dict[str, Any], mode: str) -> None:
    """The request is a call for music."""
    state[_MODE] = mode


def note_model(request: Request, model_id: str) -> None:
    """It names a model that is served."""
    setattr(request.state, _MODEL, model_id)


def note_accepted(request: Request, telemetry: Telemetry, created: Created) -> None:
    """It was accepted; a repetition of an accepted one is none of its own."""
    setattr(request.state, _ACCEPTED, True)
    if not created.replayed:
        view = created.view
        telemetry.accepted(_subject(created), view.duration_s * view.num_tracks)


def stream_record(
    request: Request, telemetry: Telemetry, created: Created, prebuffer_s: float | None
) -> StreamRecord | None:
    """For the stream that answers the request; None: it is a repetition, which is not counted.

    Args:
        prebuffer_s: what the client declares; None: nothing.
    """
    if created.replayed:
        return None
    return StreamRecord(
        telemetry,
        _subject(created),
        exemplar(request.state.request_id, current_trace_id()),
        asked_at=request.state.began_at,
        prebuffer_s=PREBUFFER_S if prebuffer_s is None else prebuffer_s,
    )


def is_refused_create(state: Mapping[str, Any]) -> bool:
    """Whether a request that has been answered was a call for music, and was not accepted."""
    return _MODE in state and _ACCEPTED not in state


def count_refusal(
    state: Mapping[str, Any], telemetry: Telemetry, tier: str | None, status: int | None, code: str | None
) -> None:
    """
    Args:
        tier: of who asked, if that is known.
        status: None: the client left before the answer.
        code: of the error.
    """
    ids = exemplar(state["request_id"], current_trace_id())
    telemetry.refused(Subject.of(state.get(_MODEL), tier, state[_MODE]), status, code, ids)


def _subject(created: Created) -> Subject:
    return Subject.of(created.view.model_id, created.view.tier, created.view.mode)
