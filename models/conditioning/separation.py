"""Drums and bass are taken out of a melody before its tune is looked for: Demucs' own network, where it is installed.

    sound ─► 44.1 kHz, two channels ─► htdemucs, 7.8 s at a time ─► vocals + other ─► mixed down, the melody's own rate

As audiocraft does it before its chromagram, but for one thing: there every sound is first shifted by up to half a
second at random, which would make other music of the same request. A. Défossez et al., "Hybrid Transformers for Music
Source Separation" (ICASSP 2023).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint_tensors import check_tensors
from models.errors import CheckpointError, EngineDeadError
from models.separator_file import SeparatorFile

if TYPE_CHECKING:
    from demucs.htdemucs import HTDemucs

KEPT = ("vocals", "other")
REMEMBERED = 4
"""Melodies: what is left of one is 15 MB at most. Variations are made side by side, and each comes with its melody."""
_OVERLAP = 0.25  # of two segments, as in Demucs by default


class Separator:
    """One sound at a time, from any thread; the latest are remembered by their samples.

    Memory is that of one segment and of the four sources of the sound: 0.8 GB for 30 s, whatever waits.

    Args:
        network: in float32, on its device.
        settings: what it was built with.
    """

    def __init__(self, network: HTDemucs, settings: SeparatorFile) -> None:
        self._network = network
        self._rate: int = settings.settings["samplerate"]
        self._channels: int = settings.settings["audio_channels"]
        self._kept = [list(settings.settings["sources"]).index(name) for name in KEPT]
        self._lock = threading.Lock()
        self._latest: OrderedDict[bytes, Tensor] = OrderedDict()  # guarded by _lock

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Separator:
        """
        Raises:
            CheckpointError: the extra is not installed, or the file is missing or not what its header says.
        """
        file = SeparatorFile.open(path)
        from demucs.htdemucs import HTDemucs

        try:
            with torch.random.fork_rng(devices=()):  # random weights, which are replaced
                network = HTDemucs(**file.settings)
        except (TypeError, ValueError, AssertionError) as error:  # Demucs asserts what it is built with
            raise CheckpointError(f"separator: {file.path} names a network that there is not: {error}") from error
        state = load_file(file.path)
        check_tensors("separator", state, {name: tuple(each.shape) for name, each in network.state_dict().items()})
        network.load_state_dict(state)
        return cls(network.float().to(device).eval(), file)

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        return sum(each.nbytes for each in self._network.state_dict().values())

    def melody_of(self, samples: Tensor, sample_rate: int, given_up: Callable[[], bool]) -> Tensor:
        """What is left of a sound without drums and bass, float32 [N], or [N − 1] after rounding; not to be written to.

        Args:
            samples: float32 [N].
            sample_rate: Hz.
            given_up: asked before each segment, some seconds of sound: whether nobody waits for it any more.

        Raises:
            EngineDeadError: it was given up.
        """
        key = hashlib.sha256(samples.numpy().tobytes()).digest()
        with self._lock:
            left = self._latest.get(key)
            if left is None:
                left = self._separated(samples, sample_rate, given_up)
            self._latest[key] = left
            self._latest.move_to_end(key)
            while len(self._latest) > REMEMBERED:
                self._latest.popitem(last=False)
        return left

    @torch.inference_mode()
    def _separated(self, samples: Tensor, sample_rate: int, given_up: Callable[[], bool]) -> Tensor:
        from demucs.apply import apply_model
        from julius import resample_frac

        def look(_progress: dict[str, Any]) -> None:
            if given_up():
                raise EngineDeadError("the separation of a melody was given up")

        device = next(self._network.parameters()).device
        sound = resample_frac(samples, sample_rate, self._rate)
        sources = apply_model(
            self._network,
            sound.expand(1, self._channels, -1),
            shifts=0,
            overlap=_OVERLAP,
            device=device,
            callback=look,
        )
        left = sources[0, self._kept].sum(0).mean(0)
        back: Tensor = resample_frac(left, self._rate, sample_rate)
        return back.contiguous()
