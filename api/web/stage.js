// One track at a time, heard and seen: while it is being made, or afterwards.

import { $, clock, write } from "./dom.js";
import { Player } from "./player.js";
import { listen } from "./stream.js";
import { wavFile } from "./wav.js";
import { Waveform } from "./waveform.js";

const STEP_S = 1;

export class Stage {
  /** @param {(take: object, error: Error) => void} onProblem */
  constructor(onProblem) {
    this.onProblem = onProblem;
    this.waveform = new Waveform($("canvas"));
    this.take = null;
    this.downloadUrl = null;
    $("play").addEventListener("click", () => this.toggle());
    $("wave").addEventListener("keydown", (event) => this.seekByKey(event));
    $("wave").addEventListener("pointerdown", (event) => {
      $("wave").setPointerCapture(event.pointerId);
      this.seekTo(event);
    });
    $("wave").addEventListener("pointermove", (event) => {
      if (event.buttons === 1) this.seekTo(event);
    });
  }

  /**
   * Make room for a track.
   *
   * @param {{title: string, isLive: boolean, isWanted: boolean}} it is being made; the visitor asked to hear it
   */
  expect({ title, isLive, isWanted }) {
    this.take?.control.abort();
    this.take?.player?.close();
    this.take = { title, isLive, isWanted, control: new AbortController(), askedAt: performance.now(), state: "asking", player: null };
    this.showAsking();
    return this.take;
  }

  /**
   * Hear a track, and return when it has all come or no more will.
   *
   * @param {{id: string, position: number, seed: string|number, model: string, aside: string, loudness: number|null}} of
   * @param {Response|null} response that brings it already
   */
  async hear(take, of, response = null) {
    take.of = of;
    if (take === this.take) this.showTitle(take);
    try {
      for await (const part of listen(of, take.control.signal, response)) {
        if (part.track) this.start(take, part.track);
        else if (part.pcm) this.append(take, part.pcm);
        else if (take === this.take) write($("status"), "The line broke. Taking it up again …");
      }
      this.end(take, "done");
    } catch (error) {
      if (error.name === "AbortError") this.end(take, "stopped");
      else {
        this.end(take, "cut");
        this.onProblem(take, error);
      }
    }
  }

  isOn(id, position) {
    return this.take?.of?.id === id && this.take.of.position === position;
  }

  start(take, track) {
    take.track = track;
    take.player = new Player(track);
    if (take !== this.take) return;
    if (take.isWanted) take.player.play();
    this.waveform.reset(track.totalSamples);
    this.showTrack(take);
  }

  append(take, pcm) {
    take.firstAt ??= performance.now();
    take.latestAt = performance.now();
    take.state = "streaming";
    take.player.append(pcm);
    if (take === this.take) this.showProgress(take);
  }

  /** Nothing more comes. @param {"done"|"stopped"|"cut"|"failed"} state */
  end(take, state) {
    if (take.state !== "asking" && take.state !== "streaming") return;
    take.state = state;
    take.player?.finish();
    if (take !== this.take) return;
    if (take.player === null || take.player.available === 0) this.showNothing(state);
    else this.showEnd(take);
  }

  toggle() {
    const player = this.take?.player;
    if (!player) return;
    if (player.wanted) player.pause();
    else player.play();
  }

  seekTo(event) {
    const player = this.take?.player;
    if (!player) return;
    const box = $("wave").getBoundingClientRect();
    player.seek(Math.floor(((event.clientX - box.left) / box.width) * player.track.totalSamples));
  }

  seekByKey(event) {
    const player = this.take?.player;
    if (!player) return;
    const step = STEP_S * player.track.sampleRate;
    const targets = {
      ArrowRight: player.position + step,
      ArrowLeft: player.position - step,
      PageUp: player.position + 5 * step,
      PageDown: player.position - 5 * step,
      Home: 0,
      End: player.available,
    };
    if (event.key === " ") this.toggle();
    else if (event.key in targets) player.seek(Math.floor(targets[event.key]));
    else return;
    event.preventDefault();
  }

  /** Every frame. */
  draw(time_ms) {
    const player = this.take?.player;
    player?.pump();
    this.waveform.draw({
      data: player?.data ?? [],
      available: player?.available ?? 0,
      position: player?.position ?? 0,
      waiting: this.take?.state === "asking",
      time_s: time_ms / 1000,
    });
    if (player) this.showPosition(player);
  }

  /* ---------------------------------------------------------------------------- what is shown */

  showAsking() {
    setState("asking");
    $("empty").hidden = true;
    $("download").hidden = true;
    $("play").disabled = true;
    $("facts").hidden = true;
    $("position").textContent = "0:00";
    $("length").textContent = "";
    this.waveform.reset(0);
    this.showTitle(this.take);
    write($("status"), this.take.isLive ? "Waiting for the first notes …" : "Fetching …");
  }

  showTitle(take) {
    $("title").hidden = false;
    $("title-text").textContent = take.title;
    $("title-aside").textContent = take.of?.aside ?? "";
  }

  showTrack(take) {
    const total_s = take.track.totalSamples / take.track.sampleRate;
    setState("streaming");
    $("facts").hidden = false;
    $("facts").dataset.kind = isWitnessed(take) ? "live" : take.isLive ? "joined" : "kept";
    $("play").disabled = false;
    $("length").textContent = `/ ${clock(total_s)}`;
    $("fact-seed").textContent = take.of.seed;
    $("fact-loudness").textContent = take.of.loudness == null ? "–" : `${take.of.loudness.toFixed(1)} LUFS`;
    $("wave").setAttribute("aria-disabled", "false");
    $("wave").setAttribute("aria-valuemax", total_s.toFixed(2));
    write($("status"), take.isLive ? liveText(take) : "");
  }

  showProgress(take) {
    const { sampleRate, totalSamples } = take.track;
    const made_s = take.player.available / sampleRate;
    const spent_s = (take.latestAt - take.askedAt) / 1000;
    $("fact-first").textContent = `${((take.firstAt - take.askedAt) / 1000).toFixed(2)} s`;
    $("fact-speed").textContent = `${(made_s / spent_s).toFixed(1)}× real time`;
    $("fact-made").textContent = `${made_s.toFixed(1)} of ${(totalSamples / sampleRate).toFixed(1)} s`;
    if (take.isLive) write($("status"), liveText(take));
  }

  showEnd(take) {
    const { player, track, of } = take;
    const made_s = (player.available / track.sampleRate).toFixed(1);
    const spent_s = ((take.latestAt - take.askedAt) / 1000).toFixed(1);
    setState(take.state);
    if (take.state !== "done") write($("status"), `${made_s} s arrived.`);
    else write($("status"), isWitnessed(take) ? `${made_s} s of music, made in ${spent_s} s.` : `${made_s} s of music.`);
    if (this.downloadUrl !== null) URL.revokeObjectURL(this.downloadUrl);
    this.downloadUrl = URL.createObjectURL(wavFile(player.data, player.available, track.sampleRate));
    $("download").href = this.downloadUrl;
    $("download").download = `tutti-${of.model}-${of.seed}.wav`;
    $("download").setAttribute("aria-label", take.state === "done" ? "Download as WAV" : "Download what arrived as WAV");
    $("download").hidden = false;
  }

  showNothing(state) {
    setState("idle");
    this.waveform.reset(0);
    $("empty").hidden = false;
    $("title").hidden = true;
    $("wave").setAttribute("aria-disabled", "true");
    write($("status"), state === "stopped" ? "Stopped before the first note." : "Nothing was made.");
  }

  showPosition(player) {
    const at_s = player.position / player.track.sampleRate;
    write($("position"), clock(at_s));
    $("play").setAttribute("aria-label", player.wanted ? "Pause" : "Play");
    $("wave").setAttribute("aria-valuenow", at_s.toFixed(2));
    $("wave").setAttribute("aria-valuetext", `${at_s.toFixed(1)} seconds`);
    $("stage").dataset.stalls = player.stalls;
  }
}

/** Asked for here: when it began is known. */
function isWitnessed(take) {
  return take.mark !== undefined;
}

function liveText(take) {
  return take.player.wanted ? "Playing while it is being made." : "It is being made: press play to hear it.";
}

function setState(state) {
  $("stage").dataset.state = state;
}
