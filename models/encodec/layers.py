"""The codec's layers as streaming modules: rows in, final rows out, the rest kept in a small state.

Every convolution is a *window* over its input rows: it keeps the few that later outputs need, pads the true
edges of the clip (and only those), and gives out each row as soon as it is final. A residual block is one window too,
and so is a transposed convolution of kernel ``2 * ratio``: block i of its output needs inputs i - 1 and i only.

Tensors are rows of channels, ``[B, T, C]``: convolutions are then matrix products on slices of the input, a
transposed convolution's output is a reshape, and no call pays for repacking weights, which for short pushes
costs a CPU convolution up to 20 times the arithmetic itself.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encodec.geometry import trim_left
from models.encodec.state import LstmState, WindowState
from models.encodec.weights import WeightReader

# Below this many frames the CPU's fused LSTM spends more on repacking its weights than it saves.
_FUSED_LSTM_MIN_FRAMES = 32


def pad_edges(rows: Tensor, before: int, after: int, mode: str) -> Tensor:
    """Pad along time. [B, T, C] -> [B, before + T + after, C]; ``reflect`` needs more rows than padding."""
    if before == after == 0:
        return rows
    if mode == "constant":
        return F.pad(rows, (0, 0, before, after))
    length = rows.shape[1]
    left, right = rows[:, 1 : before + 1].flip(1), rows[:, length - 1 - after : length - 1].flip(1)
    return torch.cat([left, rows, right], 1)


def pad_short_clip(rows: Tensor, edge: int) -> Tensor:
    """Reflect a whole clip that is too short to be reflected, as transformers does.

    Zeros go after the clip until it is long enough; as many are cut from the end once it is padded.
    """
    missing = edge + 1 - rows.shape[1]
    padded = pad_edges(F.pad(rows, (0, 0, 0, missing)), edge, edge, "reflect")
    return padded[:, : padded.shape[1] - missing]


class Kernel(nn.Module):
    """A convolution without padding, as matrix products. [B, T, C_in] -> [B, T - reach, C_out]."""

    def __init__(self, inputs: int, outputs: int, size: int, dilation: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, size, inputs), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False)
        self.dilation = dilation

    @property
    def reach(self) -> int:
        """Rows a window spans beyond its first."""
        return (self.weight.shape[1] - 1) * self.dilation

    def load(self, reader: WeightReader, prefix: str) -> None:
        outputs, size, inputs = self.weight.shape
        self.weight.copy_(reader.take_convolution(prefix, (outputs, inputs, size)).transpose(1, 2))
        self.bias.copy_(reader.take(f"{prefix}.bias", (outputs,)))

    def forward(self, rows: Tensor) -> Tensor:
        batch, length, _ = rows.shape
        if self.reach == 0:
            return F.linear(rows, self.weight[:, 0], self.bias)
        # The whole batch as one run of rows; windows across two streams are computed and left out of the view.
        flat = rows.reshape(batch * length, -1)
        out = self._unfolded(flat) if flat.is_cuda or flat.dtype.itemsize < 4 else self._by_tap(flat)
        outputs = out.shape[1]
        return out.as_strided((batch, length - self.reach, outputs), (length * outputs, outputs, 1))

    def _by_tap(self, flat: Tensor) -> Tensor:
        """One product per tap, summed in place: nothing is copied."""
        length = flat.shape[0] - self.reach
        out = torch.addmm(self.bias, flat[:length], self.weight[:, 0].t())
        for tap in range(1, self.weight.shape[1]):
            start = tap * self.dilation
            out.addmm_(flat[start : start + length], self.weight[:, tap].t())
        return out

    def _unfolded(self, flat: Tensor) -> Tensor:
        """One product over copied windows: fewer launches on a GPU, and one rounding in half precision."""
        outputs, size, inputs = self.weight.shape
        shape, strides = (flat.shape[0] - self.reach, size, inputs), (inputs, self.dilation * inputs, 1)
        windows = flat.as_strided(shape, strides).reshape(shape[0], size * inputs)
        return F.linear(windows, self.weight.view(outputs, size * inputs), self.bias)


class Stage(nn.Module):
    """A module that sees its input through a window of ``keep + 1`` rows.

    Args:
        keep: rows before the newest that an output needs.
        edge: rows of padding at either true edge of the clip; an output is final ``keep - edge`` rows late.
        pad_mode: ``constant`` or ``reflect``.
    """

    def __init__(self, keep: int, edge: int, pad_mode: str) -> None:
        super().__init__()
        self.keep = keep
        self.edge = edge
        self.pad_mode = pad_mode

    def step(self, new: Tensor, state: WindowState, last: bool) -> tuple[Tensor | None, WindowState]:
        """Take the next rows, [B, n >= 1, C]; give the rows that became final (None: none yet) and the next state.

        Args:
            last: these are the last rows of the clip.
        """
        rows = new if state.tail is None else torch.cat([state.tail, new], 1)
        first, length = not state.started, rows.shape[1]
        if first and not last and length <= self.keep - self.edge:
            return None, WindowState(rows)
        if first and last and length <= self.edge and self.pad_mode == "reflect":
            rows = pad_short_clip(rows, self.edge)
        else:
            rows = pad_edges(rows, self.edge if first else 0, self.edge if last else 0, self.pad_mode)
        # A copy: a view would keep the whole push alive.
        tail = rows[:, rows.shape[1] - self.keep :].clone()
        return self(rows, first, last), WindowState(tail, started=True)


class EdgeConvolution(Stage):
    """The first and the last convolution."""

    def __init__(self, inputs: int, outputs: int, size: int, pad_mode: str, activate: bool = False) -> None:
        super().__init__(size - 1, size // 2, pad_mode)
        self.kernel = Kernel(inputs, outputs, size)
        self.activate = activate

    def load(self, reader: WeightReader, prefix: str) -> None:
        self.kernel.load(reader, f"{prefix}.conv")

    def forward(self, rows: Tensor, first: bool, last: bool) -> Tensor:
        return cast(Tensor, self.kernel(F.elu(rows) if self.activate else rows))


class ResidualBlock(Stage):
    """rows + (ELU, convolution, ELU, 1x1). The skip is the middle of the same window."""

    def __init__(self, channels: int, hidden: int, size: int, dilation: int, pad_mode: str, shortcut: bool) -> None:
        super().__init__((size - 1) * dilation, (size - 1) * dilation // 2, pad_mode)
        self.narrow = Kernel(channels, hidden, size, dilation)
        self.widen = Kernel(hidden, channels, 1)
        self.shortcut = Kernel(channels, channels, 1) if shortcut else None

    def load(self, reader: WeightReader, prefix: str) -> None:
        self.narrow.load(reader, f"{prefix}.block.1.conv")
        self.widen.load(reader, f"{prefix}.block.3.conv")
        if self.shortcut is not None:
            self.shortcut.load(reader, f"{prefix}.shortcut.conv")

    def forward(self, rows: Tensor, first: bool, last: bool) -> Tensor:
        # ELU maps zero to zero and commutes with reflection, so it may follow the padding.
        out: Tensor = self.widen(F.elu(self.narrow(F.elu(rows))))
        skip = rows[:, self.edge : self.edge + out.shape[1]]
        return out + (skip if self.shortcut is None else self.shortcut(skip))


class Upsample(Stage):
    """ELU and a transposed convolution of kernel ``2 * ratio`` and stride ``ratio``: T rows become T * ratio.

    As a convolution: output block i, of ``ratio`` rows, is a product of inputs i - 1 and i. Beyond the clip there
    is nothing, that is zeros, whatever the pad mode; the outermost rows are trimmed, half a kernel in all.
    """

    def __init__(self, inputs: int, outputs: int, ratio: int) -> None:
        super().__init__(1, 1, "constant")
        self.kernel = Kernel(inputs, outputs * ratio, 2)
        self.ratio = ratio

    def load(self, reader: WeightReader, prefix: str) -> None:
        blocks, _, inputs = self.kernel.weight.shape
        outputs, ratio = blocks // self.ratio, self.ratio
        weight = reader.take_convolution(f"{prefix}.conv", (inputs, outputs, 2 * ratio))
        # [C_in, C_out, 2 * ratio] -> [ratio, C_out, (input i - 1, input i), C_in]
        taps = weight.permute(2, 1, 0).reshape(2, ratio, outputs, inputs).flip(0).permute(1, 2, 0, 3)
        self.kernel.weight.copy_(taps.reshape(blocks, 2, inputs))
        self.kernel.bias.copy_(reader.take(f"{prefix}.conv.bias", (outputs,)).repeat(ratio))

    def forward(self, rows: Tensor, first: bool, last: bool) -> Tensor:
        blocks: Tensor = self.kernel(F.elu(rows))  # ELU maps the zeros beyond the edges to zero
        out = blocks.reshape(blocks.shape[0], blocks.shape[1] * self.ratio, -1)
        start = trim_left(self.ratio) if first else 0
        return out[:, start : out.shape[1] - (self.ratio // 2 if last else 0)]


class _LoadedLstm(nn.LSTM):
    """Its weights are always loaded: torch's own drawing of random ones takes a tenth of a second before."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class SkipLstm(nn.Module):
    """rows + LSTM(rows), forward in time only."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = _LoadedLstm(channels, channels, layers, batch_first=True)
        self.requires_grad_(False)

    def load(self, reader: WeightReader, prefix: str) -> None:
        for name, parameter in self.lstm.named_parameters():
            parameter.copy_(reader.take(f"{prefix}.lstm.{name}", tuple(parameter.shape)))

    def fresh_state(self, batch: int) -> LstmState:
        weight = next(self.lstm.parameters())
        zeros = weight.new_zeros(self.lstm.num_layers, batch, self.lstm.hidden_size)
        return LstmState(zeros, zeros)

    def step(self, rows: Tensor, state: LstmState) -> tuple[Tensor, LstmState]:
        """[B, n, C] -> [B, n, C] and the next state."""
        if rows.is_cuda or rows.shape[1] >= _FUSED_LSTM_MIN_FRAMES:
            out, (hidden, cell) = self.lstm(rows, (state.hidden.contiguous(), state.cell.contiguous()))
            return out + rows, LstmState(hidden, cell)
        out, finals = rows, []
        for layer in range(self.lstm.num_layers):
            out, final = self._run_layer(layer, out, state.hidden[layer], state.cell[layer])
            finals.append(final)
        return out + rows, LstmState(torch.stack([h for h, _ in finals]), torch.stack([c for _, c in finals]))

    def _run_layer(
        self, layer: int, rows: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The recurrence written out: the same equations as nn.LSTM, gates in its order i, f, g, o."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w_in, w_hidden, b_in, b_hidden = (cast(Tensor, getattr(self.lstm, f"{name}_l{layer}")) for name in names)
        inputs = F.linear(rows, w_in, b_in + b_hidden)  # [B, n, 4C]
        outs = []
        for frame in range(rows.shape[1]):
            gates = torch.addmm(inputs[:, frame], hidden, w_hidden.t())
            enter, forget, update, leave = gates.chunk(4, 1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * update.tanh()
            hidden = leave.sigmoid() * cell.tanh()
            outs.append(hidden)
        return torch.stack(outs, 1), (hidden, cell)
