"""Who hears a track while it is made: a virtual player that knows when its next chunk is due. Plain numbers.

    handed over:  |chunk 1|chunk 2    |            deadline of chunk 3 = start + what was handed over
    heard:        ^ start      ^ now               time left = deadline − now

The player starts once its prebuffer is handed over and consumes real time from then on. When a chunk comes late the
player stands still meanwhile, and all later deadlines move with it. (The virtual player of the service levels counts
the same: the stall is the largest lateness.) Frames that are computed but wait for the rest of their chunk help no
listener, so time is counted to the step after which the next chunk leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.engine.chunks import ChunkPolicy
from models.engine_config import EngineConfig

START_WITHIN_S = 1.0
"""How soon a listener who has just come should hear the beginning; with less to do it is much sooner."""


@dataclass(slots=True, eq=False)
class Listener:
    """One listener's player.

    Attributes:
        policy: of this track's chunks; its own, since it grows with each.
        frame_rate: frames per second.
        lookahead: frames of codes the codec needs beyond those it hands over.
        prebuffer: frames the player waits for before it starts.
        starts_s: when the player started; until it has, when it should.
        sent: frames handed over.
        is_playing: the player has started.
        time_left_s: until what was handed over is used up, at the latest look; negative when it is.
        steps_left: until the next chunk leaves, at the latest look.
    """

    policy: ChunkPolicy
    frame_rate: float
    lookahead: int
    prebuffer: float
    starts_s: float
    sent: int = 0
    is_playing: bool = False
    time_left_s: float = 0.0
    steps_left: int = 1

    @classmethod
    def arriving(cls, config: EngineConfig, frame_rate: float, lookahead: int, now_s: float) -> Listener:
        """Of a request that has just come."""
        policy, prebuffer = ChunkPolicy(config, frame_rate), config.prebuffer_s * frame_rate
        return cls(policy, frame_rate, lookahead, prebuffer, now_s + START_WITHIN_S)

    @property
    def codes_wanted(self) -> int:
        """Complete frames of codes with which the next chunk leaves; fewer where the track ends before."""
        return self.sent + self.policy.frames + self.lookahead

    @property
    def deadline_s(self) -> float:
        """When the next chunk must be there."""
        return self.starts_s + self.sent / self.frame_rate

    def pace_s(self, steps: int) -> float:
        """How long each of so many steps may take, at most, for the next chunk to be in time and slack to be left."""
        if self.slack_s < 0:
            return self.time_left_s / self.steps_left
        return 1 / self.frame_rate + self.slack_s / max(steps, self.steps_left)

    @property
    def slack_s(self) -> float:
        """How long the track may pause and be in time with steps in real time; negative: it needs faster ones."""
        return self.time_left_s - self.steps_left / self.frame_rate

    def look(self, now_s: float, steps_left: int) -> None:
        """Note how things stand."""
        self.time_left_s = self.deadline_s - now_s
        self.steps_left = max(1, steps_left)

    def hand_over(self, frames: int, now_s: float, *, is_last: bool) -> float:
        """A chunk leaves for the player; for how many seconds it stood still waiting, 0 when the chunk is in time."""
        late_s = max(0.0, now_s - self.deadline_s) if self.is_playing else 0.0
        self.starts_s += late_s
        self.sent += frames
        self.policy.grow()
        if not self.is_playing and (self.sent >= self.prebuffer or is_last):
            self.is_playing, self.starts_s = True, now_s
        return late_s
