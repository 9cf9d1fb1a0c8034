"""A sound at another rate, by interpolation with windowed sincs (J. O. Smith, "Digital Audio Resampling", Stanford).

With 24 zero crossings, a Hann window and a cut-off at 94.5 % of the lower rate's band it is what audiocraft hears with:
its style encoder takes sound at a rate of its own. The platform's own resampler is for what people hear.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_ZEROS, _CUT_OFF = 24, 0.945


def resampled(samples: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """float32 [⌊N · to / from⌋] of float32 [N]; beyond both ends the first and the last sample go on."""
    common = math.gcd(from_hz, to_hz)
    old, new = from_hz // common, to_hz // common
    if old == new:
        return samples
    filters, width = _filters(old, new)
    padded = F.pad(samples[None, None], (width, width + old), mode="replicate")
    made = F.conv1d(padded, filters, stride=old)  # [1, new, periods]: each filter makes every new-th sample
    return made[0].t().flatten()[: len(samples) * new // old]


@cache
def _filters(old: int, new: int) -> tuple[Tensor, int]:
    """For each of the new samples of a period, the weights of the old ones around it, float32
    [new, 1, 2 · width + old]; and width."""
    rate = min(old, new) * _CUT_OFF
    width = math.ceil(_ZEROS * old / rate)
    places = torch.arange(-width, width + old).float() / old
    distances = places[None] - torch.arange(new)[:, None] / new
    angles = (distances * rate).clamp(-_ZEROS, _ZEROS) * math.pi
    filters = torch.sinc(angles / math.pi) * torch.cos(angles / _ZEROS / 2).square()
    return (filters / filters.sum(1, keepdim=True))[:, None], width
