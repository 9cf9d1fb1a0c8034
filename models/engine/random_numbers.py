"""Counter-based random numbers: a pure function of (seed, step, codebook, token).

No generator state exists, so nothing can drift: a request draws the same numbers alone, in a full batch, streamed or
not, before and after a restart. The mixing function is SplitMix64 (Steele, Lea and Flood, 2014): seed, step and
codebook choose where a stream starts, the token is the position in it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The same 64 bits as a signed number, which is what torch can hold."""
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_LOW_31_BITS = 0x7FFFFFFF
_LARGEST_UNIFORM = 1.0 - 2.0**-24


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own keeps the sign."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def mix_(z: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, any shape, in place; products wrap modulo 2**64 as they should."""
    z.bitwise_xor_(_shift_right(z, 30)).mul_(_MIX_1)
    z.bitwise_xor_(_shift_right(z, 27)).mul_(_MIX_2)
    return z.bitwise_xor_(_shift_right(z, 31))


def token_offsets(vocab_size: int, device: torch.device | str = "cpu") -> Tensor:
    """Positions in a stream, int64 ``[ceil(V / 2)]``: each 64-bit number serves two tokens."""
    return torch.arange(1, (vocab_size + 1) // 2 + 1, device=device, dtype=torch.int64) * _GOLDEN


def window_seed(seed: int, first_frame: int) -> int:
    """The seed of a window of a track, as a signed number of 64 bits; the first window's is the track's own.

    Keyed by the frame a window starts at: a track that goes on from another's codes draws what that would have drawn.
    """
    if first_frame == 0:
        return seed
    return int(mix_(mix_(torch.tensor([seed])) + torch.tensor([first_frame]) * _GOLDEN))


def exponentials(seeds: Tensor, steps: Tensor, codebooks: Tensor, offsets: Tensor, vocab_size: int) -> Tensor:
    """Independent Exp(1) numbers, float32 ``[B, K, V]``, all above 0 and finite.

    Args:
        seeds: int64 ``[B]``.
        steps: int64 ``[B]``, the step each request samples now.
        codebooks: int64 ``[K]``, 0 … K−1.
        offsets: ``token_offsets(vocab_size)``.
        vocab_size: V.
    """
    request_keys = mix_(mix_(seeds + _GOLDEN) + steps)
    keys = mix_(request_keys[:, None] + codebooks)  # [B, K]
    words = mix_(keys[:, :, None] + offsets).view(torch.int32)[:, :, :vocab_size]
    # 31 bits keep full resolution near 0, where an unlikely token wins its race; the clamp keeps log1p finite.
    uniform = words.bitwise_and_(_LOW_31_BITS).float().add_(0.5).mul_(2.0**-31).clamp_(max=_LARGEST_UNIFORM)
    return uniform.neg_().log1p_().neg_()
