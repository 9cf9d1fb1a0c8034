"""What a process counts: one call for everything that happens once per request.

The only place that knows both the names of the metrics and what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import Gauge

from api.telemetry.catalogue import UNKNOWN_MODEL, Plane
from api.telemetry.decisions import (
    JobFacts,
    Objectives,
    Outcome,
    StreamFacts,
    Verdicts,
    is_goodput,
    judge_job,
    judge_stream,
)
from api.telemetry.ended import Ended
from api.telemetry.refusals import classify
from api.telemetry.registry import Registry, tier_label
from api.telemetry.tally import Tally
from api.version import VERSION

Role = Literal["ingress", "worker", "engine", "controller"]
Exemplar = dict[str, str]

PLANES: Final[dict[Role, tuple[Plane, ...]]] = {
    "ingress": ("sli", "http"), "worker": ("sli",), "engine": ("engine",), "controller": ("control",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is counted under."""

    model: str
    tier: str
    mode: str

    @classmethod
    def of(cls, model: str | None, tier: str | None, mode: str) -> Subject:
        """With labels that there are, whatever is known."""
        return cls(model or UNKNOWN_MODEL, tier_label(tier), mode)

    @property
    def stream(self) -> tuple[str, str]:
        return self.model, self.tier

    @property
    def request(self) -> tuple[str, str, str]:
        return self.model, self.tier, self.mode


@dataclass(frozen=True, slots=True)
class Heard:
    """What there is to count of a stream, besides the facts that decide.

    Attributes:
        audio_s: handed to the server.
        min_slack_s: None: it never played, or nothing came after it had begun.
    """

    audio_s: float
    min_slack_s: float | None
    underruns: int


class Telemetry:
    """Of one ingress or worker.

    Args:
        also: names of further metrics that it serves.

    Attributes:
        tally: the same events as ``tutti_sli_events_total``, for the error budget.
    """

    def __init__(self, role: Role, objectives: Objectives, tally: Tally, also: Iterable[str] = ()) -> None:
        self.role: Final = role
        self.registry: Final = Registry(PLANES[role], (*also, "tutti_build_info"))
        self.tally: Final = tally
        self._objectives = objectives
        self.registry.gauge("tutti_build_info").labels(VERSION, role).set(1)

    # ------------------------------------------------------------------------------------------- the door
    def answered(self, method: str, route: str, status: int) -> None:
        """Any HTTP response was sent."""
        self.registry.counter("tutti_http_requests_total").labels(method, route, str(status)).inc()

    def accepted(self, subject: Subject, audio_s: float) -> None:
        """A generation of so many seconds of audio was let in."""
        self.registry.counter("tutti_admission_decisions_total").labels(subject.tier, "accepted", "none").inc()
        self.registry.counter("tutti_audio_requested_seconds_total").labels(*subject.request).inc(audio_s)
        self._event("admission", subject, good=True, exemplar=None)

    def refused(self, subject: Subject, status: int | None, code: str | None, exemplar: Exemplar) -> None:
        """A call for music was answered with an error before it was accepted; None: the client did not wait for it."""
        outcome, reason = classify(status, code)
        self.registry.counter("tutti_requests_total").labels(*subject.request, outcome).inc()
        self.registry.counter("tutti_admission_decisions_total").labels(subject.tier, "rejected", reason).inc()
        if outcome == "rejected_capacity":
            self._event("admission", subject, good=False, exemplar=exemplar)
        elif outcome == "failed":  # it was let in as far as the door is concerned
            self._event("admission", subject, good=True, exemplar=None)
            self._event("success", subject, good=False, exemplar=exemplar)

    # ------------------------------------------------------------------------------------------ listening
    def active_streams(self, subject: Subject) -> Gauge:
        return self.registry.gauge("tutti_active_streams").labels(*subject.stream)

    def listeners(self, kind: Literal["sse", "websocket"]) -> Gauge:
        return self.registry.gauge("tutti_listeners").labels(kind)

    def delivered(self, subject: Subject, audio_s: float) -> None:
        self.registry.counter("tutti_audio_delivered_seconds_total").labels(*subject.request).inc(audio_s)

    def stream_ended(self, subject: Subject, facts: StreamFacts, heard: Heard, exemplar: Exemplar) -> None:
        """A stream has ended, in whatever way."""
        tier = subject.tier
        verdicts = judge_stream(facts, self._within("ttfa", tier), self._within("continuity", tier))
        if facts.first_audio_s is not None:
            first_audio = self.registry.histogram("tutti_time_to_first_audio_seconds").labels(*subject.stream)
            first_audio.observe(facts.first_audio_s, exemplar)
        if facts.stall_s is not None:
            stall = self.registry.histogram("tutti_stream_stall_seconds").labels(*subject.stream)
            stall.observe(facts.stall_s, exemplar)
            self.registry.counter("tutti_stream_underruns_total").labels(*subject.stream).inc(heard.underruns)
        if heard.min_slack_s is not None:
            slack = self.registry.histogram("tutti_stream_min_slack_seconds").labels(*subject.stream)
            slack.observe(heard.min_slack_s, exemplar)
        self._ended(subject, facts.outcome, facts.elapsed_s, heard.audio_s, verdicts, exemplar)

    # -------------------------------------------------------------------------------------------- working
    def generation_ended(self, ended: Ended, valid: bool | None, exemplar: Exemplar) -> None:
        """A generation came into its final state. Of a stream only the work is counted here: its listener's gateway
        decides the rest.

        Args:
            valid: whether what was made is audio; None: nobody can say.
        """
        subject = Subject.of(ended.model_id, ended.tier, ended.mode)
        if ended.queue_wait_s is not None:
            wait = self.registry.histogram("tutti_queue_wait_seconds").labels(*subject.request)
            wait.observe(ended.queue_wait_s, exemplar)
        if ended.outcome == "completed" and ended.real_time_factor:
            factor = self.registry.histogram("tutti_realtime_factor_ratio").labels(*subject.request)
            factor.observe(1 / ended.real_time_factor, exemplar)
        if ended.mode == "async":
            self._job_ended(subject, ended, valid, exemplar)
        elif valid is False and ended.outcome == "failed":  # it was stopped before any listener could judge it
            self._event("validity", subject, good=False, exemplar=exemplar)

    def wasted(self, subject: Subject, audio_s: float) -> None:
        """An attempt that had made so much came to no result."""
        self.registry.counter("tutti_audio_wasted_seconds_total").labels(*subject.request).inc(audio_s)

    # ---------------------------------------------------------------------------------------------- parts
    def _job_ended(self, subject: Subject, ended: Ended, valid: bool | None, exemplar: Exemplar) -> None:
        facts = JobFacts(ended.outcome, ended.slack_s, valid)
        if ended.outcome == "completed":
            self.delivered(subject, ended.audio_s)
            slack = self.registry.histogram("tutti_deadline_slack_seconds").labels(*subject.stream)
            slack.observe(ended.slack_s, exemplar)
        self._ended(subject, ended.outcome, ended.elapsed_s, ended.audio_s, judge_job(facts), exemplar)

    def _ended(
        self,
        subject: Subject,
        outcome: Outcome,
        elapsed_s: float,
        audio_s: float,
        verdicts: Verdicts,
        exemplar: Exemplar,
    ) -> None:
        self.registry.counter("tutti_requests_total").labels(*subject.request, outcome).inc()
        if outcome == "completed":
            duration = self.registry.histogram("tutti_request_duration_seconds").labels(*subject.request)
            duration.observe(elapsed_s, exemplar)
        if is_goodput(outcome, verdicts):
            self.registry.counter("tutti_audio_goodput_seconds_total").labels(*subject.request).inc(audio_s)
        for sli, good in verdicts.items():
            self._event(sli, subject, good=good, exemplar=exemplar)

    def _event(self, sli: str, subject: Subject, *, good: bool, exemplar: Exemplar | None) -> None:
        result = "good" if good else "bad"
        # Only what is bad is looked up later; a good one's id would push it out.
        told = None if good else exemplar
        self.registry.counter("tutti_sli_events_total").labels(sli, *subject.request, result).inc(1, told)
        self.tally.count(sli, subject.tier, good=good)

    def _within(self, sli: str, tier: str) -> float:
        threshold = self._objectives.threshold(sli, tier)
        assert threshold is not None, "slo.yaml was checked when it was loaded"
        return threshold


def exemplar(request_id: str, trace_id: str | None) -> Exemplar:
    """By what a request is found again: in the logs, and in the traces if it was traced."""
    ids = {"request_id": request_id}
    return ids if trace_id is None else {**ids, "trace_id": trace_id}
