"""EnCodec's decoder: codes to samples, in steps that may be of any size.

quantizer lookup (sum over codebooks) -> convolution -> LSTM with skip -> for each ratio: upsample, residual
blocks -> convolution. There is one way through it, `EncodecDecoder.step`; a whole clip is a few large steps.
Equal to transformers' ``EncodecModel.decode`` on the same weights.

Why state per layer, and not the stack re-run on a window of new frames with a halo: both are exact. The halo after
the LSTM is one frame to either side, so every push pays for two frames more. Measured on one CPU core in fp32, best
of 20, the upsampling stack with a halo took, against carried state, 2.7 times as long for pushes of 1 frame, 1.6
for 5, 1.4 for 10 and 1.05 for 50 (64 filters; 1.8, 1.4, 1.2, 1.05 with 16). State also makes the ends of a clip,
its middle and clips shorter than the look-ahead one piece of code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import CodecConfig
from models.encodec.geometry import check_supported, lookahead_frames
from models.encodec.interface import Codec
from models.encodec.layers import EdgeConvolution, ResidualBlock, SkipLstm, Stage, Upsample
from models.encodec.state import DecoderState, WindowState
from models.encodec.weights import WeightReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.checkpoint import Checkpoint


class EncodecDecoder(nn.Module, Codec):
    """The decoder of one codec in torch, of any supported geometry, on any device.

    Args:
        config: the codec's geometry. Weights are no numbers to count on until loaded.

    Raises:
        CheckpointError: naming a configuration value that is not supported.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        check_supported(config)
        self.config = config
        self.lookahead_frames = lookahead_frames(config)
        codebooks = torch.zeros(config.num_quantizers * config.codebook_size, config.hidden_size)
        self.codebooks = nn.Parameter(codebooks, requires_grad=False)
        channels = config.num_filters * 2 ** len(config.upsampling_ratios)
        self.first = EdgeConvolution(config.hidden_size, channels, config.kernel_size, config.pad_mode)
        self.lstm = SkipLstm(channels, config.num_lstm_layers)
        self.stages = nn.ModuleList(_stages(config, channels))

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> EncodecDecoder:
        """The decoder of a loaded checkpoint.

        Raises:
            CheckpointError: a tensor is missing, left over or misshapen, or the configuration is not supported.
        """
        return cls.from_state(checkpoint.config.codec, checkpoint.codec_state, device, dtype)

    @classmethod
    def from_state(
        cls,
        config: CodecConfig,
        state: Mapping[str, Tensor],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> EncodecDecoder:
        """Build from tensors by their transformers names below ``audio_encoder.``; see `from_checkpoint`."""
        decoder = cls(config).to(dtype)
        decoder._load(WeightReader(state, dtype))
        return decoder.to(device).eval()

    @property
    def device(self) -> torch.device:
        return self.codebooks.device

    @property
    def nbytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.parameters())

    def fresh_state(self, batch: int = 1) -> DecoderState:
        """The state before the first frame of ``batch`` clips."""
        return DecoderState(
            first=WindowState(),
            lstm=self.lstm.fresh_state(batch),
            stages=tuple(WindowState() for _ in self.stages),
            pending=self.codebooks.new_zeros(batch, 0),
        )

    @torch.inference_mode()
    def step(self, codes: Tensor, state: DecoderState, last: bool) -> tuple[Tensor, DecoderState]:
        """See `Codec.step`."""
        rows, first = self.first.step(self._look_up(codes), state.first, last)
        lstm, stages = state.lstm, list(state.stages)
        if rows is not None:
            rows, lstm = self.lstm.step(rows, lstm)
        for index, stage in enumerate(self.stages):
            if rows is None:
                break
            rows, stages[index] = cast(Stage, stage).step(rows, stages[index], last)
        final = state.pending if rows is None else torch.cat([state.pending, rows[:, :, 0]], 1)
        whole = final.shape[1] // self.config.hop_length * self.config.hop_length
        return final[:, :whole], DecoderState(first, lstm, tuple(stages), final[:, whole:].clone())

    def _look_up(self, codes: Tensor) -> Tensor:
        """[B, K, n] -> [B, n, C]: the sum of the codebooks' vectors."""
        offsets = torch.arange(codes.shape[1], device=self.device)[:, None] * self.config.codebook_size
        return F.embedding(codes.to(self.device) + offsets, self.codebooks).sum(1)

    @torch.no_grad()
    def _load(self, reader: WeightReader) -> None:
        shape = (self.config.codebook_size, self.config.codebook_dim)
        names = [f"quantizer.layers.{index}.codebook.embed" for index in range(self.config.num_quantizers)]
        self.codebooks.copy_(torch.cat([reader.take(name, shape) for name in names]))
        self.first.load(reader, "decoder.layers.0")
        self.lstm.load(reader, "decoder.layers.1")
        place = 2
        for stage in self.stages:
            # The ELU before an upsampling stage and before the last convolution is a layer of its own there.
            place += 0 if isinstance(stage, ResidualBlock) else 1
            cast("_Loadable", stage).load(reader, f"decoder.layers.{place}")
            place += 1
        reader.finish()


_Loadable = EdgeConvolution | ResidualBlock | Upsample


def _stages(config: CodecConfig, channels: int) -> list[_Loadable]:
    """What follows the LSTM, in order."""
    stages: list[_Loadable] = []
    for ratio in config.upsampling_ratios:
        stages.append(Upsample(channels, channels // 2, ratio))
        channels //= 2
        for layer in range(config.num_residual_layers):
            dilation = config.dilation_growth_rate**layer
            hidden = channels // config.compress
            size, shortcut = config.residual_kernel_size, config.use_conv_shortcut
            stages.append(ResidualBlock(channels, hidden, size, dilation, config.pad_mode, shortcut))
    stages.append(EdgeConvolution(channels, 1, config.last_kernel_size, config.pad_mode, activate=True))
    return stages
