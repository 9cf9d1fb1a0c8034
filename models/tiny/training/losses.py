"""The codec's losses: phase-aware and with long windows, because without them tones never lock."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_WINDOWS = (512, 2048, 8192)


def _stft(x: Tensor, window: int) -> Tensor:
    return torch.stft(x, window, window // 4, window=torch.hann_window(window), return_complex=True, normalized=True)


def reconstruction_loss(output: Tensor, target: Tensor, log_weight: float = 0.0) -> Tensor:
    """Relative L1 + spectral convergence + square-root magnitude + complex L1, averaged over three STFT windows.

    output, target: [B, samples]. ``log_weight`` > 0 adds a soft log-magnitude term (late in training, against hiss).
    """
    scale = target.abs().mean(1, keepdim=True).clamp_min(1e-2)
    loss = ((output - target).abs() / scale).mean()
    for window in _WINDOWS:
        if target.shape[1] < window:
            output, target = pad(output, (0, window)), pad(target, (0, window))
        got, want = _stft(output / scale, window), _stft(target / scale, window)
        got_mag, want_mag = (got.abs() + 1e-7), (want.abs() + 1e-7)
        norm = want_mag.pow(2).sum((1, 2)).sqrt()
        norm = torch.maximum(norm, 0.2 * norm.mean())  # a silent crop must not outweigh the rest
        converge = ((got_mag - want_mag).pow(2).sum((1, 2)).sqrt() / norm).mean()
        roots = (got_mag.sqrt() - want_mag.sqrt()).abs().mean() / want_mag.sqrt().mean()
        complex_l1 = (got - want).abs().mean() / want_mag.mean()
        loss = loss + (converge + roots + complex_l1) / len(_WINDOWS)
        if log_weight:
            floor = 1e-2 * want_mag.mean()
            loss = loss + log_weight * ((got_mag + floor).log() - (want_mag + floor).log()).abs().mean() / len(_WINDOWS)
    return loss


def signal_to_noise_db(output: Tensor, target: Tensor) -> float:
    """Mean over the batch of 10 log10(signal / error), in dB."""
    error = (output - target).pow(2).sum(1).clamp_min(1e-9)
    return float((10 * torch.log10(target.pow(2).sum(1).clamp_min(1e-9) / error)).mean())
