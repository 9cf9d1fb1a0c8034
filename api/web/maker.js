// Making music and hearing it: from the form to the server, from the server to the stage.

import { ask, askJson, parse, post, Unreachable } from "./client.js";
import { $ } from "./dom.js";
import { audio } from "./player.js";
import { clearErrors, markField, showNotice, showProblem } from "./problems.js";
import { Stage } from "./stage.js";
import { Cut } from "./stream.js";

const DEFAULT_RATE = 32000;
const ACCEPTED_LOOK_MS = 500; // a stream that has not begun by then waits: the list shows how long
const MARK_LOOKS_MS = [0, 300, 1000];

export class Maker {
  /** @param {Form} form */
  constructor(form) {
    this.form = form;
    this.library = null; // which shows what is made; set by whoever has both
    this.stage = new Stage((take, error) => this.fail(take, error));
    this.unanswered = null; // {text, mark} of a request whose answer did not come: sent again it makes nothing twice
  }

  /** Something is being made, and heard here. */
  get isMaking() {
    const { isLive, state } = this.stage.take ?? {};
    return Boolean(isLive) && (state === "asking" || state === "streaming");
  }

  async generate() {
    clearErrors();
    const busy = this.form.uploading;
    if (busy) {
      markField($("compose"), busy.use, "The file is still on its way: wait for it, or remove it.")?.focus();
      return;
    }
    audio(this.form.model?.sample_rate ?? DEFAULT_RATE).resume(); // inside the click: else a browser may refuse to play
    const body = this.form.read();
    const text = JSON.stringify(body);
    const take = this.stage.expect({ title: body.prompt, isLive: true, isWanted: true });
    take.mark = this.unanswered?.text === text ? this.unanswered.mark : newMark();
    this.unanswered = null;
    showBusy(true);
    try {
      const marked = { ...body, metadata: { page: take.mark } };
      await (body.num_tracks > 1 ? this.makeSeveral(take, marked) : this.makeOne(take, marked));
    } catch (error) {
      if (error instanceof Unreachable) this.unanswered = { text, mark: take.mark };
      this.stage.end(take, error.name === "AbortError" ? "stopped" : "failed");
      if (error.name !== "AbortError") this.fail(take, error);
    } finally {
      if (take === this.stage.take) showBusy(false);
    }
  }

  /**
   * One track is a stream, which comes first in the queue and keeps up with who listens. Its key makes it last: a page
   * that goes away and comes back finds it going on.
   */
  async makeOne(take, body) {
    const look = setTimeout(() => this.library.refresh(), ACCEPTED_LOOK_MS);
    const options = { headers: { "Idempotency-Key": take.mark }, signal: take.control.signal };
    const response = await post("generate/stream", { ...body, format: "pcm" }, options).finally(() => clearTimeout(look));
    const read = (name) => response.headers.get(name);
    const of = { id: read("X-Generation-ID"), position: 0, seed: read("X-Seed"), model: read("X-Model"), aside: "", loudness: null };
    this.accepted(take);
    this.library.refresh();
    await this.stage.hear(take, of, response);
  }

  async makeSeveral(take, body) {
    const options = { headers: { "Idempotency-Key": take.mark }, signal: take.control.signal };
    const response = await post("generate", body, options);
    const made = this.library.learn(parse(await response.text()));
    this.accepted(take);
    await this.stage.hear(take, described(made, made.tracks.get(0)));
  }

  accepted(take) {
    if (take === this.stage.take) showBusy(false);
  }

  /** Stop what the stage is making: for good, not only here. */
  async stop() {
    if (!this.isMaking) return;
    const take = this.stage.take;
    take.control.abort();
    try {
      const id = take.of?.id ?? (await findMarked(take.mark));
      if (id) await ask(`generate/${id}/cancel`, { method: "POST" });
    } catch (error) {
      if (error.error?.code !== "generation_ended") showProblem(error, { title: "It could not be cancelled" });
    }
  }

  /** Hear a track of the list, finished or not. @param {boolean} isWanted by the visitor, at once */
  async hear(made, track, isWanted = true) {
    const isLive = track.state !== "succeeded";
    const take = this.stage.expect({ title: made.prompt, isLive, isWanted });
    showBusy(false);
    await this.stage.hear(take, described(made, track));
  }

  /** What was being made when the page was left is heard again. */
  goOn() {
    const made = this.library.making[0];
    if (made === undefined || this.stage.take !== null) return;
    this.hear(made, made.first, navigator.userActivation?.hasBeenActive ?? false);
  }

  fail(take, error) {
    if (take !== this.stage.take) return;
    if (error instanceof Cut) {
      this.showCut(take);
      return;
    }
    const hasEnded = error.error?.details?.state !== undefined; // what can be repeated is the making, not the hearing
    const again = take.of && !hasEnded ? () => this.hearAgain(take) : take.mark ? () => this.generate() : null;
    showProblem(error, { title: take.of ? "The music stopped" : "The server refused", again });
  }

  hearAgain(take) {
    clearErrors();
    const made = this.library.takes.get(take.of.id);
    if (made) this.hear(made, made.tracks.get(take.of.position));
  }

  showCut(take) {
    const { player, track } = take;
    const made_s = ((player?.available ?? 0) / (track?.sampleRate ?? 1)).toFixed(1);
    const total_s = track ? (track.totalSamples / track.sampleRate).toFixed(1) : "?";
    const text = `${made_s} of ${total_s} s arrived; what is here can be played and downloaded. The server goes on making it.`;
    showNotice("Connection cut", text, { code: take.of.id, again: () => this.hearAgain(take) });
  }
}

function described(made, track) {
  const aside = made.tracks.size > 1 ? `variation ${track.position + 1} of ${made.tracks.size}` : "";
  return { id: made.id, position: track.position, seed: track.seed, model: made.model, aside, loudness: track.loudness_lufs };
}

/** A stream that was not answered yet has no name here, but it carries a mark. It may not be written down yet, either. */
async function findMarked(mark) {
  for (const wait_ms of MARK_LOOKS_MS) {
    await new Promise((resolve) => setTimeout(resolve, wait_ms));
    const page = await askJson("audio?limit=10");
    const found = page.data.find((track) => track.metadata.page === mark);
    if (found) return found.generation_id;
  }
  return null;
}

/** Without randomUUID, which a page has over HTTPS and on its own machine only. */
function newMark() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function showBusy(isBusy) {
  $("generate").disabled = isBusy;
}
