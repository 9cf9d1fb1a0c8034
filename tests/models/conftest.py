"""Tests of the music share cores with whatever else runs: one thread each, and no clock judges them."""

from __future__ import annotations

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")
