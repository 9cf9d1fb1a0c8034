"""GPUs that replicas share: where one is put when it starts, and for how long each GPU is held.

A replica stays where it was put, so what others leave behind is filled by newcomers or by nobody. A new one goes onto
the fullest GPU with room, and a GPU without any is given back.
"""

from __future__ import annotations

_GRAIN = 10_000
"""As in ``autoscaling.packing``."""


class Gpus:
    """
    Attributes:
        held: GPUs with a replica on them.
        most: of them at once.
        gpu_s: seconds for which they were held, in sum, until ``advance`` was called last.
    """

    def __init__(self) -> None:
        self.held = 0
        self.most = 0
        self.gpu_s = 0.0
        self._at = 0.0
        self._levels: list[int] = []
        self._by_level: dict[int, set[int]] = {}
        self._empty: list[int] = []

    def advance(self, now: float) -> None:
        self.gpu_s += self.held * (now - self._at)
        self._at = now

    def take(self, share: float, now: float) -> int:
        """Puts a replica somewhere; the GPU's number. The cost is that of the different levels there are."""
        size = round(share * _GRAIN)
        if size == 0:
            return -1  # it needs none
        level = max((each for each, held in self._by_level.items() if held and each + size <= _GRAIN), default=0)
        gpu = next(iter(self._by_level[level])) if level else self._new(now)
        self._move(gpu, level, level + size)
        return gpu

    def give(self, gpu: int, share: float, now: float) -> None:
        """A replica is gone from it."""
        if gpu < 0:
            return
        level = self._levels[gpu]
        self._move(gpu, level, level - round(share * _GRAIN))
        if self._levels[gpu] == 0:
            self.advance(now)
            self.held -= 1
            self._empty.append(gpu)

    def level(self, gpu: int) -> float:
        """How full it is, in [0, 1]."""
        return self._levels[gpu] / _GRAIN if gpu >= 0 else 0.0

    def _new(self, now: float) -> int:
        self.advance(now)
        self.held += 1
        self.most = max(self.most, self.held)
        if self._empty:
            return self._empty.pop()
        self._levels.append(0)
        return len(self._levels) - 1

    def _move(self, gpu: int, before: int, after: int) -> None:
        if before:
            self._by_level[before].discard(gpu)
        if after:
            self._by_level.setdefault(after, set()).add(gpu)
        self._levels[gpu] = after
