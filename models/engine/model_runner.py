"""One batched step of the transformer: codes so far in, the next codes out. Knows rows and tensors, no policy.

The codes of all running requests live in one table, ``history[slot, step, codebook]``, still delayed as they are
sampled. A step reads one line per row and writes one line per request; the audio stage reads whole frames.

Music that is known lies in the history already. Its positions are rows of the step like any others, several of one
region at once, behind the rows that sample; so what a step makes of a row depends on nothing but the row, here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.conditioning.text import TextConditioner
from models.engine.prefixes import Prefixes, SoundConditioner
from models.engine.random_numbers import window_seed
from models.engine.runner import Runner, Running, not_finite
from models.engine.sampler import SamplingBatch, sample
from models.engine.stats import StatsCollector
from models.engine.step import StepPlan, StepResult
from models.musicgen.interface import Given, StepDecoder
from models.musicgen.rows import RowCache, RowHandle


@dataclass(slots=True)
class _Batch:
    """The layout of one set of requests, kept until a request joins or leaves.

    B requests and R rows: rows 0 … B−1 are the conditioned rows in the order of the requests, then come the other
    rows of each of the guided ones: null, and wordless with double guidance. Only ``positions`` and ``row_positions``
    move, by one each step.
    """

    composition: int
    sequences: list[Running]
    handles: list[RowHandle]
    slots: Tensor  # int64 [B]
    frames: Tensor  # int64 [B, 1], of the windows they are in
    behind: Tensor  # int64 [K] or [B, K], positions before that of frame 0, for each codebook
    known: Tensor | None  # int64 [B, 1], how many of them are; None if there are none
    positions: Tensor  # int64 [B], steps sampled so far
    row_slots: Tensor  # int64 [R]
    row_positions: Tensor  # int64 [R]
    sampling: SamplingBatch
    cache: Any


@dataclass(frozen=True, slots=True)
class _Fill:
    """Rows that are filled in one step, of F positions: what they read and where they lie."""

    handles: list[RowHandle]  # [F]
    slots: Tensor  # int64 [F]
    positions: Tensor  # int64 [F]
    given: Given | None  # of these rows, counted from the first of them


class ModelRunner(Runner):
    """Runs the decoder and the sampler, and keeps the codes.

    Args:
        decoder: one that computes a step for whichever rows it is given.
        max_slots: most requests that hold rows.
        max_steps: of the longest window, what comes before its codes included.
        sound: what hears melodies or styles, of a model without cross-attention.
    """

    def __init__(
        self,
        decoder: StepDecoder,
        text: TextConditioner,
        cache: RowCache,
        stats: StatsCollector,
        *,
        max_slots: int,
        max_steps: int,
        device: torch.device | str,
        sound: SoundConditioner | None = None,
    ) -> None:
        super().__init__(decoder, text, cache, stats)
        self._step_decoder = decoder
        self._device = device
        self._special = self.config.special_token
        self._prefixes = None if sound is None else Prefixes(decoder, text, sound)
        self._behind = torch.tensor(self.config.delays, dtype=torch.int64, device=device) + 1  # [K]
        shape = (max_slots, max_steps + 1, self.config.num_codebooks)
        self._history = torch.full(shape, self._special, dtype=torch.int64, device=device)
        self._batch: _Batch | None = None
        # The latest view with filled rows, after those who sample and they.
        self._filling_view: tuple[list[RowHandle], list[RowHandle], Any] = ([], [], None)

    def forget(self, request_id: str) -> None:
        super().forget(request_id)
        if self._prefixes is not None:
            self._prefixes.forget(request_id)

    # --------------------------------------------------------------------------------------------------- inside

    def _admit(self, sequence: Running) -> None:
        self._history[sequence.slot] = self._special
        if self._prefixes is not None:
            self._prefixes.lay_out(sequence)

    def _forget_layout(self) -> None:
        self._batch = None
        self._filling_view = ([], [], None)

    def _step(self, plan: StepPlan[RowHandle], result: StepResult) -> None:
        if len(result.failures) == len(plan.running):
            return
        batch = self._batch
        if batch is None or batch.composition != plan.composition:
            batch = self._batch = self._lay_out(self._sampling(plan, result), plan.composition)
        fill = self._fill(plan, result)
        if not batch.handles and fill is None:
            return  # they only wait for their sound
        logits = self._forward(batch, fill)  # [R, K, V]
        batch.positions += 1
        batch.row_positions += 1
        sampled, finite = sample(logits, batch.positions, batch.sampling)
        self._history[batch.slots, batch.positions] = self._delay(sampled, batch)
        self._stats.count_step(len(batch.row_slots) + plan.filled_rows)
        if not bool(finite.all()):
            self._fail_not_finite(batch, finite, result)

    def _sampling(self, plan: StepPlan[RowHandle], result: StepResult) -> list[Running]:
        """Those who sample in this step and did not fail."""
        return [each for each in plan.running if each.is_sampling and each.request_id not in result.failures]

    def _forward(self, batch: _Batch, fill: _Fill | None) -> Tensor:
        """Logits of the batch's rows, which advance, as do the rows that are filled beside them."""
        slots, positions, view, given = batch.row_slots, batch.row_positions, batch.cache, None
        if fill is not None:
            if fill.given is not None:
                given = Given(fill.given.rows + len(slots), fill.given.embeddings)
            slots, positions = torch.cat([slots, fill.slots]), torch.cat([positions, fill.positions])
            if self._filling_view[:2] != (batch.handles, fill.handles):
                self._filling_view = (batch.handles, fill.handles, self._cache.view(batch.handles, fill.handles))
            view = self._filling_view[2]
        return self._step_decoder.forward_step(self._history[slots, positions], positions, view, given)

    def _fill(self, plan: StepPlan[RowHandle], result: StepResult) -> _Fill | None:
        """The positions that are filled in this step, in order for each row."""
        handles: list[RowHandle] = []
        slots: list[int] = []
        positions: list[int] = []
        given: list[tuple[int, Tensor]] = []  # from which of these on, and what
        for sequence, share in plan.filling:
            if sequence.request_id in result.failures:
                continue
            if self._prefixes is not None:
                taken = enumerate(self._prefixes.take(sequence, share))
                given += [(len(handles) + index * share, embeddings) for index, embeddings in taken]
            for row in sequence.rows:
                handles += [row] * share
                slots += [sequence.slot] * share
                positions += range(sequence.step, sequence.step + share)
        if not handles:
            return None
        return _Fill(handles, self._column(slots), self._column(positions), self._given(given) if given else None)

    def _given(self, pieces: list[tuple[int, Tensor]]) -> Given:
        rows = [row for first, embeddings in pieces for row in range(first, first + len(embeddings))]
        return Given(self._column(rows), torch.cat([embeddings for _, embeddings in pieces]))

    def _column(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def _delay(self, sampled: Tensor, batch: _Batch) -> Tensor:
        """The codes of a step: the special token where the pattern has no frame for a codebook, what is known where
        it reaches into this step, otherwise what was sampled. ``[B, K]``"""
        frames = batch.positions[:, None] - batch.behind  # [B, K]
        codes = sampled.masked_fill((frames < 0) | (frames >= batch.frames), self._special)
        if batch.known is None:
            return codes
        return torch.where(frames < batch.known, self._history[batch.slots, batch.positions], codes)

    def _behind_of(self, sequences: list[Running]) -> Tensor:
        """See `_Batch.behind`."""
        if self._prefixes is None:
            return self._behind
        return self._behind + self._column([sequence.prefix for sequence in sequences])[:, None]

    def _fail_not_finite(self, batch: _Batch, finite: Tensor, result: StepResult) -> None:
        for sequence, is_fine in zip(batch.sequences, finite.tolist(), strict=True):
            if not is_fine:
                result.failures[sequence.request_id] = not_finite(sequence.step + 1)

    def _lay_out(self, sequences: list[Running], composition: int) -> _Batch:
        handles = [sequence.rows[0] for sequence in sequences]
        owners, null_rows = list(sequences), list(range(len(sequences)))
        wordless: dict[int, tuple[int, float]] = {}
        for index, sequence in enumerate(sequences):
            assert len(sequence.rows) == sequence.num_rows, f"{sequence.request_id} lost a row: this is a bug"
            if sequence.num_rows > 1:
                null_rows[index] = len(handles)
            if sequence.num_rows > 2:
                wordless[index] = len(handles) + 1, sequence.request.guidance_beta
            handles += sequence.rows[1:]
            owners += [sequence] * (sequence.num_rows - 1)

        known = [sequence.window.known for sequence in sequences]
        return _Batch(
            composition=composition,
            sequences=sequences,
            handles=handles,
            slots=self._column([sequence.slot for sequence in sequences]),
            frames=self._column([sequence.window.frames for sequence in sequences])[:, None],
            behind=self._behind_of(sequences),
            known=self._column(known)[:, None] if any(known) else None,
            positions=self._column([sequence.step for sequence in sequences]),
            row_slots=self._column([sequence.slot for sequence in owners]),
            row_positions=self._column([sequence.step for sequence in owners]),
            sampling=SamplingBatch.build(
                [sequence.request.sampling for sequence in sequences],
                [window_seed(sequence.request.seed, sequence.window.start) for sequence in sequences],
                null_rows,
                wordless,
                num_codebooks=self.config.num_codebooks,
                vocab_size=self.config.vocab_size,
                device=self._device,
            ),
            cache=self._cache.view(handles),
        )
