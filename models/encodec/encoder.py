"""EnCodec's encoder: samples to codes, the other way round than everything else here. Equal to transformers'.

convolution -> for each ratio: residual blocks, ELU, convolution of stride ``ratio`` -> LSTM with skip -> ELU ->
convolution -> residual vector quantiser: each codebook's nearest vector to what the ones before it left over.

A clip is known as a whole, so this need not stream; but a minute's first layer is hundreds of megabytes, so the
convolutions go through it piece by piece, each with a margin that holds all they look at. Always in float32 and on a
CPU: it runs once for a track, beside the steps of others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import CodecConfig
from models.encodec.geometry import check_supported
from models.encodec.layers import SkipLstm
from models.encodec.weights import WeightReader

_PIECE_FRAMES = 200


def has_encoder(state: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint with these names below ``audio_encoder.`` holds the weights of an encoder."""
    return any(name.startswith("encoder.") for name in state)


class _Convolution:
    """Padded as transformers' ``EncodecConv1d``. [B, C_in, T] -> [B, C_out, ceil(T / stride)]."""

    def __init__(
        self,
        reader: WeightReader,
        name: str,
        shape: tuple[int, int, int],
        pad_mode: str,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        self._weight = reader.take_convolution(f"{name}.conv", shape)
        self._bias = reader.take(f"{name}.conv.bias", shape[:1])
        self._pad_mode, self._stride, self._dilation = pad_mode, stride, dilation
        self._padding = (shape[2] - 1) * dilation + 1 - stride
        self.reach = (shape[2] - 1) * dilation
        """Inputs that an output sees to one side of its own, at most."""

    def __call__(self, rows: Tensor) -> Tensor:
        right = self._padding // 2
        missing = -rows.shape[2] % self._stride
        padded = _pad(rows, self._padding - right, right + missing, self._pad_mode)
        return F.conv1d(padded, self._weight, self._bias, self._stride, dilation=self._dilation)


class _ResidualBlock:
    """rows + (ELU, convolution, ELU, 1x1)."""

    def __init__(self, reader: WeightReader, name: str, config: CodecConfig, channels: int, dilation: int) -> None:
        hidden, size, mode = channels // config.compress, config.residual_kernel_size, config.pad_mode
        narrow = (hidden, channels, size)
        self.narrow = _Convolution(reader, f"{name}.block.1", narrow, mode, dilation=dilation)
        self.widen = _Convolution(reader, f"{name}.block.3", (channels, hidden, 1), mode)
        shortcut = (channels, channels, 1)
        self.shortcut = _Convolution(reader, f"{name}.shortcut", shortcut, mode) if config.use_conv_shortcut else None

    def __call__(self, rows: Tensor) -> Tensor:
        skip = rows if self.shortcut is None else self.shortcut(rows)
        return skip + self.widen(F.elu(self.narrow(F.elu(rows))))


class EncodecEncoder:
    """
    Args:
        config: the codec's geometry.
        state: tensors by their transformers names below ``audio_encoder.``.

    Raises:
        CheckpointError: a tensor is missing or misshapen, or the configuration is not supported.
    """

    def __init__(self, config: CodecConfig, state: Mapping[str, Tensor]) -> None:
        check_supported(config)
        self.config = config
        reader = WeightReader(state, torch.float32)
        shape = (config.codebook_size, config.codebook_dim)
        names = [f"quantizer.layers.{index}.codebook.embed" for index in range(config.num_quantizers)]
        self._codebooks = [reader.take(name, shape) for name in names]
        place = self._read_stack(reader)
        channels = config.num_filters * 2 ** len(config.upsampling_ratios)
        self._lstm = SkipLstm(channels, config.num_lstm_layers)
        with torch.no_grad():
            self._lstm.load(reader, f"encoder.layers.{place}")
        last = (config.hidden_size, channels, config.last_kernel_size)
        self._last = _Convolution(reader, f"encoder.layers.{place + 2}", last, config.pad_mode)  # after an ELU

    def _read_stack(self, reader: WeightReader) -> int:
        """The convolutions before the LSTM, whose place in the list of layers it returns."""
        config, channels, place, stride, reach = self.config, self.config.num_filters, 1, 1, 0
        first = (channels, 1, config.kernel_size)
        self._stack: list[tuple[_Convolution | _ResidualBlock, bool]] = []  # with an ELU before it or not
        self._stack.append((_Convolution(reader, "encoder.layers.0", first, config.pad_mode), False))
        reach += config.kernel_size
        for ratio in reversed(config.upsampling_ratios):
            for layer in range(config.num_residual_layers):
                dilation = config.dilation_growth_rate**layer
                block = _ResidualBlock(reader, f"encoder.layers.{place}", config, channels, dilation)
                self._stack.append((block, False))
                reach += block.narrow.reach * stride
                place += 1
            down = (2 * channels, channels, 2 * ratio)
            convolution = _Convolution(reader, f"encoder.layers.{place + 1}", down, config.pad_mode, stride=ratio)
            self._stack.append((convolution, True))
            reach += convolution.reach * stride
            place, channels, stride = place + 2, 2 * channels, stride * ratio
        self._margin = -(-reach // config.hop_length)  # frames
        return place

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """Codes of mono clips.

        Args:
            samples: float32 [B, N >= 1]

        Returns:
            int64 [B, K, ceil(N / hop)]
        """
        rows = torch.cat(list(self._pieces(samples[:, None])), dim=2).transpose(1, 2)  # [B, F, C]
        rows, _ = self._lstm.step(rows, self._lstm.fresh_state(len(rows)))
        return self._quantize(self._last(F.elu(rows.transpose(1, 2))).transpose(1, 2))

    def _pieces(self, samples: Tensor) -> Iterator[Tensor]:
        """What comes out of the stack, [B, C, frames], piece by piece."""
        hop = self.config.hop_length
        frames = -(-samples.shape[2] // hop)
        for first in range(0, frames, _PIECE_FRAMES):
            begin, last = max(0, first - self._margin), min(first + _PIECE_FRAMES, frames)
            rows = samples[:, :, begin * hop : (last + self._margin) * hop]
            for layer, activate in self._stack:
                rows = layer(F.elu(rows) if activate else rows)
            yield rows[:, :, first - begin : last - begin]

    def _quantize(self, rows: Tensor) -> Tensor:
        """[B, F, D] -> int64 [B, K, F]"""
        residual, codes = rows.reshape(-1, rows.shape[2]), []
        for codebook in self._codebooks:
            distances = residual.pow(2).sum(1, keepdim=True) - 2 * residual @ codebook.t() + codebook.pow(2).sum(1)
            nearest = distances.argmin(1)
            residual = residual - codebook[nearest]
            codes.append(nearest.view(rows.shape[:2]))
        return torch.stack(codes, dim=1)


def _pad(rows: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad along time; what is too short to be reflected gets zeros behind it first, as many as are cut off after."""
    if left == right == 0:
        return rows
    if mode == "constant":
        return F.pad(rows, (left, right))
    missing = max(0, max(left, right) - rows.shape[2] + 1)
    padded = F.pad(F.pad(rows, (0, missing)), (left, right), mode)
    return padded[:, :, : padded.shape[2] - missing]
