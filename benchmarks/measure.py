"""Runs our side and its peers in turn, on equal streams, within a budget of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.parity import Agreement, agreement, check_lengths
from benchmarks.peers.audiocraft_import import PeerMissingError
from benchmarks.peers.registry import PEER_ERRORS, SIDES, PeerName, reason
from benchmarks.sides import Codes, Made, Side
from benchmarks.weights import Weights
from benchmarks.workload import Stream, streams_for

SHORTEST_S = 0.5
WARM_TAKE = -2

Pairs = Sequence[tuple[Made, Made]]
"""(ours, theirs) of each repeat, run one right after the other."""


@dataclass(slots=True)
class Peer:
    """One peer of a run.

    Attributes:
        side: None where there is none, and then ``missing`` says why.
        agreement: of its greedy codes with float32.
    """

    name: PeerName
    side: Side | None = None
    missing: str | None = None
    agreement: Agreement | None = None

    def fail(self, error: Exception) -> None:
        """It takes no further part."""
        self.side, self.missing = None, reason(error)


@dataclass(frozen=True, slots=True)
class Measured:
    """One workload.

    Attributes:
        ours: runs of full length.
        pairs: of each peer that ran; a slow one may have got shorter streams, and then ours in its pairs, too.
    """

    ours: Sequence[Made]
    pairs: Mapping[str, Pairs] = field(default_factory=dict)


def open_peers(names: Sequence[PeerName], weights: Weights, streams: Sequence[Stream], reference: Codes) -> list[Peer]:
    """Build each peer and let it make these streams greedily, which also shows whether it runs at all.

    Args:
        reference: what the first of the streams is in float32.
    """
    peers = [Peer(name) for name in names]
    for peer in peers:
        try:
            peer.side = SIDES[peer.name.family](weights, peer.name.dtype)
            made = peer.side.make(streams, greedy=True)
        except (PeerMissingError, *PEER_ERRORS) as error:
            peer.fail(error)
        else:
            check_lengths(made, streams, padded=True)
            peer.agreement = agreement(made.codes[0], reference) if made.codes else None
    return peers


def take_turns(
    ours: Side, peers: Sequence[Peer], streams: Sequence[Stream], frame_rate: int, repeats: int, budget_s: float
) -> Measured:
    """Ours, a peer, ours, the next peer …; every repeat with new prompts and seeds, after a short run to warm up.

    Args:
        budget_s: for the runs of one peer. It gets shorter streams if one run would take longer, and ours with it.
    """
    count, frames = len(streams), streams[0].frames
    warm = streams_for(count, int(SHORTEST_S * frame_rate), WARM_TAKE)
    ours.make(warm)
    fitting = {str(peer.name): _fitting_frames(peer, warm, frames, budget_s) for peer in peers if peer.side}
    pairs: dict[str, list[tuple[Made, Made]]] = {str(peer.name): [] for peer in peers}
    for take in range(repeats):
        for peer in peers:
            name = str(peer.name)
            spent_s = sum(theirs.wall_s for _, theirs in pairs[name])
            if peer.side is not None and (take == 0 or spent_s * (take + 1) / take <= budget_s):
                pairs[name] += _pair(ours, peer, streams_for(count, fitting[name], take))
    full = [mine for each in pairs.values() for mine, _ in each if max(mine.frames) == frames]
    full += [_made(ours, streams_for(count, frames, take)) for take in range(len(full), repeats)]
    return Measured(full, {name: each for name, each in pairs.items() if each})


def _fitting_frames(peer: Peer, warm: Sequence[Stream], frames: int, budget_s: float) -> int:
    """The longest stream that this peer makes once within the budget; judged by a short run, which warms it up, too."""
    assert peer.side is not None, "only peers that run are timed"
    try:
        made = peer.side.make(warm)
    except PEER_ERRORS as error:
        peer.fail(error)
        return frames
    return max(warm[0].frames, min(frames, int(budget_s * made.steps / made.wall_s)))


def _pair(ours: Side, peer: Peer, streams: Sequence[Stream]) -> list[tuple[Made, Made]]:
    assert peer.side is not None, "only peers that run are timed"
    mine = _made(ours, streams)
    try:
        theirs = peer.side.make(streams)
    except PEER_ERRORS as error:
        peer.fail(error)
        return []
    check_lengths(theirs, streams, padded=True)
    return [(mine, theirs)]


def _made(ours: Side, streams: Sequence[Stream]) -> Made:
    made = ours.make(streams)
    check_lengths(made, streams)
    return made
