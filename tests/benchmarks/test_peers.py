"""The peers do the work they are compared by, and one that can not is a line of the report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.measure import Peer, open_peers, take_turns
from benchmarks.parity import agreement
from benchmarks.peers import audiocraft_import
from benchmarks.peers.audiocraft_import import PeerMissingError, install_command, load
from benchmarks.peers.registry import SIDES, PeerName, default_peers, known, parse_peers, reason
from benchmarks.peers.static_batching import LARGEST_BATCH, WINDOW_S, StaticBatching, batch_size
from benchmarks.peers.streamer import PIECE_S, Streamer
from benchmarks.peers.transformers_generate import Transformers
from benchmarks.peers_bench import main
from benchmarks.serving import Log
from benchmarks.sides import Made, Tutti
from benchmarks.weights import Weights, weights_of_folder
from benchmarks.workload import Arrival, Stream, mean_frames, poisson_arrivals, streams_for
from tests.factories import make_checkpoint

SHAPE: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "vocab": 64, "filters": 2, "ratios": (4, 2)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    torch.set_num_threads(1)
    return weights_of_folder(make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **SHAPE), "cpu")


class Recorder:
    """A side that makes nothing and takes a set time for it, for the rules about whom to ask for what."""

    def __init__(self, step_s: float = 0.001, error: Exception | None = None) -> None:
        self.asked: list[Sequence[Stream]] = []
        self._step_s, self._error = step_s, error

    def make(self, streams: Sequence[Stream], *, greedy: bool = False) -> Made:
        if self._error:
            raise self._error
        self.asked.append(streams)
        frames = tuple(stream.frames for stream in streams)
        return Made(max(frames) * self._step_s, 1.0, (0.1,) * len(frames), frames, max(frames), 2.0, {"decode": 1.0})


# ------------------------------------------------------------------------------------------------- the peers themselves


@pytest.mark.parametrize("family", ["transformers", "transformers-static", "streamer"])
def test_in_float32_every_peer_makes_the_same_codes(weights: Weights, family: str) -> None:
    streams = streams_for(1, 100, take=0)
    ours = Tutti(weights, "fp32", "cpu", streams).make(streams, greedy=True)
    theirs = SIDES[family](weights, torch.float32).make(streams, greedy=True)
    assert theirs.frames == (100,)
    assert np.array_equal(theirs.codes[0], ours.codes[0])


def test_the_streamer_is_heard_before_the_end_and_gives_all(weights: Weights) -> None:
    """One after the other. A piece is 1.5 s, so the first of 2 s sounds before its end; the second waits for it."""
    streams = [Stream("piano", 100, 0), Stream("drums", 30, 1)]
    made = Streamer(weights, torch.float32).make(streams)
    assert made.frames == (100, 30)
    assert 100 > PIECE_S * weights.config.frame_rate > 30
    assert 0 < made.first_audio_s[0] < made.first_audio_s[1] <= made.wall_s


def test_the_streamer_raises_what_generate_raises(weights: Weights) -> None:
    with pytest.raises(ValueError, match=r"max_new_tokens|length"):
        Streamer(weights, torch.float32).make([Stream("piano", -10, 0)])


def test_stereo_streams_too(tmp_path: Path) -> None:
    stereo = weights_of_folder(make_checkpoint(tmp_path, **SHAPE, stereo=True), "cpu")
    streams = streams_for(1, 90, take=0)
    whole = Transformers(stereo, torch.float32).make(streams, greedy=True)
    streamed = Streamer(stereo, torch.float32).make(streams, greedy=True)
    assert streamed.frames == whole.frames
    assert np.array_equal(streamed.codes[0], whole.codes[0])


@pytest.mark.skipif(not (audiocraft_import.FOLDER / "audiocraft").is_dir(), reason="installed for the benchmark only")
def test_audiocraft_makes_the_same_codes_in_float32(weights: Weights) -> None:
    streams = streams_for(1, 40, take=0)
    ours = Tutti(weights, "fp32", "cpu", streams).make(streams, greedy=True)
    theirs = SIDES["audiocraft"](weights, torch.float32).make(streams, greedy=True)
    assert agreement(theirs.codes[0], ours.codes[0]).equal == 1
    assert not {"xformers", "spacy", "librosa"} & set(sys.modules)


# ------------------------------------------------------------------------------------------------------------ by name


def test_names() -> None:
    assert parse_peers("none", SIDES) == ()
    assert parse_peers("audiocraft-bf16, transformers-static-fp32", SIDES) == (
        PeerName("audiocraft", "bf16"),
        PeerName("transformers-static", "fp32"),
    )
    assert [str(name) for name in parse_peers(",".join(known(SIDES)), SIDES)] == known(SIDES)
    assert default_peers("fp32") == "transformers-fp32"
    assert default_peers("int4") == "transformers-bf16"


def test_a_peer_that_is_not_installed_is_a_command(tmp_path: Path) -> None:
    with pytest.raises(PeerMissingError) as caught:
        load(tmp_path)
    assert reason(caught.value) == f"not installed: {install_command(tmp_path)}"
    assert f"--no-deps --target {tmp_path} audiocraft==1.3.0" in install_command(tmp_path)


def test_the_command_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--install-hint"]) == 0
    assert capsys.readouterr().out.strip() == install_command()


def test_a_peer_that_does_not_run_is_a_line(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_weights: Weights, _dtype: torch.dtype) -> Recorder:
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setitem(SIDES, "audiocraft", broken)
    (peer,) = open_peers([PeerName("audiocraft", "fp32")], weights, streams_for(1, 5, 0), np.zeros((4, 5), np.int64))
    assert peer.side is None
    assert peer.missing == "does not run: RuntimeError: no such operator"


# ----------------------------------------------------------------------------------------------------------- in turn


def test_sides_take_turns_with_new_prompts() -> None:
    ours, theirs = Recorder(), Recorder()
    measured = take_turns(ours, [Peer(PeerName("a", "fp32"), theirs)], streams_for(2, 100, 0), 50, 3, budget_s=60)
    assert ours.asked[1:] == theirs.asked[1:]  # after one to warm up
    assert len({streams[0].prompt for streams in ours.asked}) == 4
    assert len(measured.ours) == len(measured.pairs["a-fp32"]) == 3


def test_a_slow_peer_gets_shorter_streams_and_ours_with_it() -> None:
    ours, slow = Recorder(), Recorder(step_s=0.1)
    measured = take_turns(ours, [Peer(PeerName("a", "fp32"), slow)], streams_for(1, 200, 0), 50, 3, budget_s=6)
    ((mine, theirs),) = measured.pairs["a-fp32"]
    assert mine.frames == theirs.frames == (60,)
    assert [made.frames for made in measured.ours] == [(200,)] * 3


def test_a_peer_that_breaks_drops_out() -> None:
    peer = Peer(PeerName("a", "fp32"), Recorder(error=RuntimeError("out of memory")))
    measured = take_turns(Recorder(), [peer], streams_for(1, 100, 0), 50, 2, budget_s=60)
    assert measured.pairs == {}
    assert len(measured.ours) == 2
    assert peer.missing == "does not run: RuntimeError: out of memory"


# ------------------------------------------------------------------------------------------------------------ arrivals


def test_arrivals_are_seeded_and_mixed() -> None:
    arrivals = poisson_arrivals(20, 10, 100, seed=3)
    assert arrivals == poisson_arrivals(20, 10, 100, seed=3) != poisson_arrivals(20, 10, 100, seed=4)
    assert 140 < len(arrivals) < 260
    assert {arrival.stream.frames for arrival in arrivals} == {25, 50, 75, 100}
    assert mean_frames(100) == 62.5
    assert len(poisson_arrivals(1e-9, 1, 100)) == 1


def test_a_window_waits_for_company_or_a_full_batch() -> None:
    assert batch_size([0.0, 0.01], WINDOW_S / 2) == 0
    assert batch_size([0.0, 0.01], WINDOW_S) == 2
    assert batch_size([0.0, 9.0], WINDOW_S) == 1
    assert batch_size([0.0] * (LARGEST_BATCH + 3), 0.001) == LARGEST_BATCH
    assert batch_size([1.0], 0.5) == 0


def test_a_static_batch_serves_all_together() -> None:
    side = Recorder()
    arrivals = [Arrival(0.0, stream) for stream in streams_for(LARGEST_BATCH + 2, 10, 0)]
    served = StaticBatching(side).serve(arrivals, limit_s=30)
    assert [len(streams) for streams in side.asked] == [LARGEST_BATCH, 2]
    assert served.finished_share == 1
    assert served.first_audio_s == served.finished_s


def test_who_waits_in_vain_counts_with_the_wait() -> None:
    log = Log([Arrival(at_s, Stream("piano", 5, 0)) for at_s in (0.0, 1.0, 2.0, 9.0)])
    log.heard(0, 0.5)
    log.heard(0, 0.7)
    log.finished(0, 1.5)
    log.heard(1, 3.0)
    served = log.served(6.0)
    assert served.first_audio_s == (0.5, 2.0, None, None)
    assert served.finished_share == 0.25
    assert served.waited_s == (6.0, 5.0, 4.0, 0.0)
    assert served.first_audio_quantile(0.5) == 0.5
    assert served.finished_quantile(1.0) == 5.0


def test_ours_serves_arrivals_and_lets_go_at_the_limit(weights: Weights) -> None:
    streams = streams_for(2, 20, 0)
    ours = Tutti(weights, "fp32", "cpu", streams)
    served = ours.serve([Arrival(0.0, stream) for stream in streams], limit_s=60)
    assert served.finished_share == 1
    assert ours.serve([Arrival(0.0, stream) for stream in streams], limit_s=0).finished_share == 0
    assert ours.make(streams).frames == (20, 10)  # nothing of the cut-off run is left


# ------------------------------------------------------------------------------------------------------ the whole table


def test_the_whole_table(weights: Weights, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder, names = weights.checkpoint.folder, "transformers-fp32,streamer-fp32,window-fp32"
    arguments = f"--model {folder} --duration 0.5 --batch 2 --repeats 1 --budget-s 1 --peers {names}"
    assert main([*arguments.split(), "--html", str(tmp_path / "page.html")]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    alone, together, arrivals = result["runs"]
    assert [run["workload"] for run in result["runs"]] == ["batch-1", "batch-2", "poisson"]
    assert set(alone["peers"]) == {"transformers-fp32", "streamer-fp32"}
    assert set(together["peers"]) == {"transformers-fp32"}
    assert set(arrivals["peers"]) == {"streamer-fp32", "window-fp32"}
    assert arrivals["capacity_realtime_factor"] == together["realtime_factor"]
    assert result["time_to_first_audio_loaded_s"]["first_audio_p50_s"] == arrivals["first_audio_p50_s"] > 0
    assert "Poisson arrivals at 70% of our capacity" in printed
    assert "Poisson arrivals" in (tmp_path / "page.html").read_text()


def test_bare_json_prints_one_line(weights: Weights, capsys: pytest.CaptureFixture[str]) -> None:
    folder = weights.checkpoint.folder
    arguments = f"--model {folder} --duration 0.5 --batch 1 --repeats 1 --budget-s 0.5 --peers none --json"
    assert main(arguments.split()) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["benchmark"] == "peers"
