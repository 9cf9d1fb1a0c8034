"""One stream on its way out: fed by its response from the first piece to the last byte, counted at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from api.streams.pieces import Piece
from api.telemetry.decisions import Outcome, StreamFacts
from api.telemetry.player import PREBUFFER_S, FlushTimes, VirtualPlayer
from api.telemetry.recorder import Exemplar, Heard, Subject, Telemetry
from api.telemetry.validity import Validity


class StreamRecord:
    """Of a request that asked for the music. Who listens again, or to somebody else's, is not counted.

    Args:
        asked_at: when the request came, by ``clock``.
        prebuffer_s: seconds of audio that the client gathers before it plays.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        subject: Subject,
        exemplar: Exemplar,
        *,
        asked_at: float,
        prebuffer_s: float = PREBUFFER_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._telemetry = telemetry
        self._subject = subject
        self._exemplar = exemplar
        self._asked_at = asked_at
        self._prebuffer_s = prebuffer_s
        self._clock = clock
        self._player: VirtualPlayer | None = None
        self._times = FlushTimes()
        self._validity = Validity()
        self._due = 0
        self._waiting = 0  # samples that an encoder holds
        self._here_since = 0.0
        self._sending = False
        self._flushed_at = 0.0

    def take(self, piece: Piece, samples: npt.NDArray[np.int16]) -> None:
        """A piece goes to the encoder."""
        if self._player is None:
            header = piece.header
            self._player = VirtualPlayer(self._asked_at, header.sample_rate, header.total_samples, self._prebuffer_s)
            self._due = header.total_samples * header.channels
        self._validity.add(samples)
        self._waiting += piece.num_samples
        self._here_since = piece.here_since

    def flush(self) -> None:
        """What was taken goes to the server now. Say ``flushed`` when the client has it."""
        assert self._player is not None, "a piece comes before its bytes"
        self._sending, self._flushed_at = True, self._clock()
        if self._waiting:
            before_s = self._player.audio_s
            self._player.flush(self._times.of(self._flushed_at, self._here_since), self._waiting)
            self._telemetry.delivered(self._subject, self._player.audio_s - before_s)
            self._waiting = 0

    def flushed(self) -> None:
        self._sending = False
        self._times.held_up(self._clock() - self._flushed_at)

    def end(self, outcome: Outcome) -> None:
        """Called once."""
        now, player = self._clock(), self._player
        if player is not None and not self._sending:  # a client that does not take what there is waits for nothing
            player.leave(now)
        facts = StreamFacts(
            outcome=outcome,
            elapsed_s=now - self._asked_at,
            first_audio_s=player.first_audio_s if player else None,
            stall_s=player.stall_s if player and player.playing_since is not None else None,
            valid=self._validity.holds(self._due) if outcome == "completed" else None,
        )
        heard = Heard(
            audio_s=player.audio_s if player else 0.0,
            min_slack_s=player.min_slack_s if player else None,
            underruns=player.underruns if player else 0,
        )
        self._telemetry.stream_ended(self._subject, facts, heard, self._exemplar)
