"""Work on tensors at fixed addresses, run again and again: as CUDA graphs on a GPU, by calling it elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Work = Callable[[], Sequence[Tensor]]
"""Reads tensors at addresses that never change; gives new tensors of shapes that never change."""

_WARM_UP_RUNS = 2


class Capture(ABC):
    """Makes work repeatable: what it gives then comes in the same tensors every time."""

    @staticmethod
    def of(device: torch.device | str) -> Capture:
        """Graphs on a GPU; elsewhere there are none."""
        return CudaCapture(torch.device(device)) if torch.device(device).type == "cuda" else EagerCapture()

    @abstractmethod
    def __call__(self, work: Work) -> Work:
        """The same work, started on the stream that is current then; what it gave before is overwritten."""


class EagerCapture(Capture):
    """Does the work when it is asked for, and copies what it gives to where it was before, as a graph would."""

    @torch.inference_mode()
    def __call__(self, work: Work) -> Work:
        kept = [each.clone() for each in work()]

        @torch.inference_mode()
        def again() -> Sequence[Tensor]:
            for old, new in zip(kept, work(), strict=True):
                old.copy_(new)
            return kept

        return again


class CudaCapture(Capture):
    """All graphs share one pool of memory: capture the largest first, and run one at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def __call__(self, work: Work) -> Work:
        torch.cuda.synchronize(self._device)
        graph, given = torch.cuda.CUDAGraph(), list[Any]()
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):  # compiles kernels, chooses products, makes workspaces
                work()
            self._stream.synchronize()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                given += work()
        torch.cuda.synchronize(self._device)

        def again() -> Sequence[Tensor]:
            graph.replay()
            return given

        return again
