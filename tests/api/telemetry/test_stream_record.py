"""What one stream tells of itself, with a clock that the test moves."""

from __future__ import annotations

import numpy as np
import pytest

from api.clock import utc_now
from api.streams.pieces import Piece, TrackHeader
from api.telemetry.compose import make_telemetry
from api.telemetry.decisions import Outcome
from api.telemetry.recorder import Subject, Telemetry, exemplar
from api.telemetry.stream_record import StreamRecord

HEADER = TrackHeader(sample_rate=1000, channels=1, total_samples=1000)
SUBJECT = Subject("tiny", "enterprise", "stream")  # first audio within 1 s, a stall of at most 0.05 s


class Listened:
    """A stream in pieces of 0.2 s, and the seconds at which things happen."""

    def __init__(self) -> None:
        self.now = 100.0
        self.telemetry: Telemetry = make_telemetry("ingress", utc_now)
        ids = exemplar("req_1", None)
        self.record = StreamRecord(self.telemetry, SUBJECT, ids, asked_at=100.0, clock=lambda: self.now)
        self._index = 0

    def send(self, at: float, *, here_since: float | None = None, taken_for_s: float = 0.0, level: int = 100) -> None:
        """The next piece leaves, and the client takes it for so long."""
        self.now = 100.0 + at
        samples = np.full(200, level, "<i2")
        since = self.now if here_since is None else 100.0 + here_since
        self.record.take(Piece(0, self._index, HEADER, samples.tobytes(), since), samples)
        self._index += 1
        self.record.flush()
        self.now += taken_for_s
        self.record.flushed()

    def end(self, at: float, outcome: Outcome = "completed") -> dict[str, bool]:
        self.now = 100.0 + at
        self.record.end(outcome)
        return {
            name: good
            for name in ("ttfa", "continuity", "success", "validity")
            for good in (True, False)
            if self._events(name, "good" if good else "bad")
        }

    def value(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.collectors.get_sample_value(name, labels) or 0.0

    def _events(self, sli: str, result: str) -> float:
        of = {"model": "tiny", "tier": "enterprise", "mode": "stream"}
        return self.value("tutti_sli_events_total", sli=sli, result=result, **of)


@pytest.fixture
def listened() -> Listened:
    return Listened()


def test_a_stream_in_time(listened: Listened) -> None:
    for at in (0.3, 0.4, 0.5, 0.6, 0.7):
        listened.send(at)
    assert listened.end(0.7) == {"ttfa": True, "continuity": True, "success": True, "validity": True}
    of = {"model": "tiny", "tier": "enterprise"}
    assert listened.value("tutti_time_to_first_audio_seconds_sum", **of) == pytest.approx(0.4)
    assert listened.value("tutti_audio_goodput_seconds_total", mode="stream", **of) == pytest.approx(1.0)
    assert listened.value("tutti_audio_delivered_seconds_total", mode="stream", **of) == pytest.approx(1.0)


def test_a_stream_that_stalls(listened: Listened) -> None:
    for at in (0.3, 0.4, 0.5, 3.0, 3.1):
        listened.send(at)
    assert listened.end(3.1) == {"ttfa": True, "continuity": False, "success": True, "validity": True}
    of = {"model": "tiny", "tier": "enterprise"}
    assert listened.value("tutti_stream_underruns_total", **of) == 1
    assert listened.value("tutti_audio_goodput_seconds_total", mode="stream", **of) == 0


def test_a_client_that_reads_slowly_has_stalled_by_itself(listened: Listened) -> None:
    listened.send(0.3)
    listened.send(0.4)
    listened.send(0.5, taken_for_s=5.0)
    listened.send(5.5, here_since=0.6)
    listened.send(5.5, here_since=0.7)
    assert listened.end(5.6)["continuity"] is True


def test_a_client_that_is_cut_for_reading_nothing_waited_for_nothing(listened: Listened) -> None:
    for at in (0.3, 0.4, 0.5):
        listened.send(at)
    samples = np.full(200, 100, "<i2")
    listened.record.take(Piece(0, 3, HEADER, samples.tobytes(), listened.now), samples)
    listened.record.flush()  # and it never takes it
    assert listened.end(30.0, "cancelled") == {"ttfa": True, "continuity": True}


def test_a_client_that_leaves_while_it_waits_has_stalled(listened: Listened) -> None:
    for at in (0.3, 0.4, 0.5):
        listened.send(at)
    assert listened.end(9.0, "cancelled") == {"ttfa": True, "continuity": False}


def test_silence_is_no_audio(listened: Listened) -> None:
    for at in (0.3, 0.4, 0.5, 0.6, 0.7):
        listened.send(at, level=0)
    assert listened.end(0.7)["validity"] is False


def test_an_encoder_that_holds_samples_back_delays_them(listened: Listened) -> None:
    samples = np.full(200, 100, "<i2")
    for index in range(4):
        listened.record.take(Piece(0, index, HEADER, samples.tobytes(), 100.1), samples)
    listened.send(5.0)
    assert listened.end(5.0)["ttfa"] is False


def test_nothing_heard_before_it_ended(listened: Listened) -> None:
    assert listened.end(0.5, "cancelled") == {}
    assert Listened().end(2.0, "failed") == {"ttfa": False, "success": False}


def test_a_bad_event_is_found_again(listened: Listened) -> None:
    for at in (5.3, 5.4, 5.5, 5.6, 5.7):
        listened.send(at)
    listened.end(5.7)
    text, content_type = listened.telemetry.registry.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    [line] = [line for line in text.decode().splitlines() if 'result="bad",sli="ttfa"' in line and "_total" in line]
    assert '# {request_id="req_1"} 1.0' in line
    buckets = [line for line in text.decode().splitlines() if "first_audio_seconds_bucket" in line and "# {" in line]
    assert len(buckets) == 1
    assert b"# {" not in listened.telemetry.registry.render()[0]  # the older format has no place for it
