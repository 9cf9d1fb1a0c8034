"""The codec's weights as the CPU kernel reads them, and the layout of what a stream remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

from models.encodec.decoder import EncodecDecoder
from models.encodec.layers import EdgeConvolution, ResidualBlock, SkipLstm, Upsample
from models.encodec.layers import Kernel as Convolution
from models.encodec.plan import StageShape
from models.kernels.cpu import codec as native
from models.kernels.cpu.codec import CodecKernel, LstmLayer, Panel, Stage
from models.kernels.cpu.packing import FORMATS, TILE, pack_panel

_LINE = 64  # bytes: everything in a state begins at a multiple


class CodecWeights:
    """Packed weights; keep it alive while the kernel may read them.

    Args:
        decoder: whose weights, float32, to take; with ``packed`` only its shapes are looked at.
        weights: "fp32" or "bf16".
        packed: what `tensors` was, here or in another process; they are the caller's to keep as they are.

    Attributes:
        codec: the kernel's view of it all.
    """

    def __init__(
        self,
        decoder: EncodecDecoder,
        weights: str,
        shapes: tuple[StageShape, ...],
        kernel: CodecKernel,
        packed: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._weights, self._path, self._packed = weights, kernel.path, packed
        self._number = kernel.activation_bytes(FORMATS[weights])
        self._kept: list[Tensor] = []
        self._state_bytes = 0
        config = decoder.config
        lstm = [self._lstm_layer(decoder.lstm, layer) for layer in range(config.num_lstm_layers)]
        modules = [decoder.first, *decoder.stages]
        stages = [self._stage(module, shapes, index) for index, module in enumerate(modules)]
        self._structures = (native.array_of(LstmLayer, list(lstm)), native.array_of(Stage, list(stages)))
        numbers = config.num_lstm_layers * shapes[0].outputs
        self.codec = native.Codec(
            format=FORMATS[weights],
            quantizers=config.num_quantizers,
            codebook_size=config.codebook_size,
            layers=len(lstm),
            num_stages=len(stages),
            width=shapes[0].outputs,
            hidden=self._reserve(numbers * self._number),
            cell=self._reserve(numbers * 4),
            pending=self._reserve(config.hop_length * 4),
            codebooks=self._keep(lambda: decoder.codebooks.float().contiguous()),
            lstm=self._structures[0],
            stages=self._structures[1],
        )
        self.codec.state_bytes = self._state_bytes

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._kept)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All that is kept, for another process; the names say in which order it was made."""
        return ((str(place), tensor) for place, tensor in enumerate(self._kept))

    def _stage(self, module: object, shapes: tuple[StageShape, ...], index: int) -> Stage:
        shape = shapes[index]
        before, cuts = shapes[index - 1].ratio if index else 0, shapes[index - 1].trims if index else (0, 0)
        tail = shape.channels * (shape.size - 1)
        stage = Stage(
            kind=native.KINDS[shape.kind],
            channels=shape.channels,
            outputs=shape.outputs,
            size=shape.size,
            ratio=shape.ratio,
            # What a transposed convolution makes beyond the clip's ends is written there, before padding is.
            front=max(shape.edge, cuts[0]),
            back=max(shape.edge, before),
            tail=self._reserve(tail * self._number),
        )
        if isinstance(module, ResidualBlock):
            stage.raw_tail = self._reserve(tail * 4)
            hidden = module.widen.weight.shape[2]
            even = hidden + hidden % 2
            stage.main = self._convolution(module.narrow, outputs=even)
            stage.widen = self._convolution(module.widen, inputs=even)
        elif shape.kind == "last":
            stage.main = self._single_output(cast(EdgeConvolution, module).kernel)
        else:
            stage.main = self._convolution(cast("EdgeConvolution | Upsample", module).kernel)
        return stage

    def _convolution(self, kernel: Convolution, outputs: int = 0, inputs: int = 0) -> Panel:
        """With so many outputs or inputs, where that is more than it has."""
        own = (kernel.weight.shape[0], kernel.weight.shape[1] * kernel.weight.shape[2])
        outputs, inputs = max(outputs, own[0]), max(inputs, own[1])

        def filled() -> Tensor:
            weight = kernel.weight.new_zeros(outputs, inputs)
            weight[: own[0], : own[1]] = kernel.weight.flatten(1)
            return weight

        return self._panel((outputs, inputs), filled, lambda: kernel.bias)

    def _single_output(self, kernel: Convolution) -> Panel:
        """One output wants its inputs side by side; its weights are few, and stay float32."""
        inputs = kernel.weight.numel()
        data = self._keep(lambda: _filled(kernel.weight.flatten(), -(-inputs // TILE) * TILE))
        return Panel(1, inputs, data, self._keep(lambda: kernel.bias.float().clone()))

    def _lstm_layer(self, module: SkipLstm, layer: int) -> LstmLayer:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w_in, w_hidden, b_in, b_hidden = (cast(Tensor, getattr(module.lstm, f"{name}_l{layer}")) for name in names)
        return LstmLayer(
            self._panel(w_in.shape, lambda: _gates_together(w_in), lambda: _gates_together(b_in + b_hidden)),
            self._panel(w_hidden.shape, lambda: _gates_together(w_hidden), lambda: torch.zeros_like(b_hidden)),
        )

    def _panel(self, shape: tuple[int, ...], weight: Callable[[], Tensor], bias: Callable[[], Tensor]) -> Panel:
        outputs, inputs = shape
        data = self._keep(lambda: pack_panel(weight().float(), self._weights, self._path))
        return Panel(outputs, inputs, data, self._keep(lambda: _filled(bias(), -(-outputs // TILE) * TILE)))

    def _keep(self, make: Callable[[], Tensor]) -> int:
        """Where the next tensor lies."""
        tensor = make() if self._packed is None else self._packed[str(len(self._kept))]
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _reserve(self, size: int) -> int:
        """So many bytes of a stream's state; where they begin."""
        begin = self._state_bytes
        self._state_bytes += -(-size // _LINE) * _LINE
        return begin


def _filled(vector: Tensor, size: int) -> Tensor:
    """float32 [size], zeros at the end."""
    filled = torch.zeros(size)
    filled[: len(vector)] = vector
    return filled


def _gates_together(tensor: Tensor) -> Tensor:
    """[4 · C, …] in torch's order, i, f, g, o, becomes [C / 16 · 4 · 16, …]: a channel's four gates in one thread."""
    return tensor.reshape(4, -1, TILE, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)
