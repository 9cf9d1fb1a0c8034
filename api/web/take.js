// One generation in the list: what was asked for, and each of its tracks with its picture and what can be done with it.

import { askJson } from "./client.js";
import { clock, copyOf, part, write } from "./dom.js";
import { USES } from "./sources.js";

const LIVE = new Set(["queued", "running", "cancelling"]);
const BARS = 90;
const QUIETEST = 0.02; // silence is still visible

/** Pictures are fetched when they are about to be seen. */
const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) target.dispatchEvent(new Event("seen"));
    }
  },
  { rootMargin: "600px" },
);

export class Take {
  /**
   * @param {string} id of the generation
   * @param {{prompt: string, model: string, created_at: string}} facts
   * @param {Acts} acts
   * @param {string[]} uses that any model has of a track
   */
  constructor(id, { prompt, model, created_at }, acts, uses) {
    Object.assign(this, { id, prompt, model, acts, uses });
    this.createdAt = Date.parse(created_at);
    this.tracks = new Map(); // position → track
    this.rows = new Map(); // position → element
    this.view = null; // the generation, once it is known
    this.element = copyOf("take-template");
    this.element.dataset.id = id;
    part(this.element, "prompt").textContent = prompt;
    part(this.element, "cancel").addEventListener("click", () => acts.cancel(this));
  }

  get isLive() {
    return [...this.tracks.values()].some((track) => LIVE.has(track.state));
  }

  get isQueued() {
    return this.view === null || this.view.state === "queued";
  }

  get first() {
    return this.tracks.get(Math.min(...this.tracks.keys()));
  }

  /** @param {object[]} tracks as the gallery or the generation gives them */
  learn(tracks, view = null) {
    if (view !== null) {
      this.view = view;
      this.doneAt = view.eta_s === null ? null : Date.now() + 1000 * view.eta_s;
    }
    for (const track of tracks) {
      // Of a removed track the generation's events may still tell.
      if (view !== null && this.removed?.has(track.position)) continue;
      this.tracks.set(track.position, { ...this.tracks.get(track.position), ...track, model: this.model, prompt: this.prompt });
      this.showRow(this.tracks.get(track.position));
    }
    this.showState();
  }

  remove(track) {
    (this.removed ??= new Set()).add(track.position);
    this.tracks.delete(track.position);
    this.rows.get(track.position).remove();
    this.rows.delete(track.position);
    this.showState();
  }

  offer(uses) {
    this.uses = uses;
    for (const track of this.tracks.values()) this.showActions(track);
  }

  /** How a track of it is called where others are named too. */
  nameOf(track) {
    const which = this.tracks.size > 1 ? `variation ${track.position + 1} of ` : "";
    return `${which}“${this.prompt}”`;
  }

  /* --------------------------------------------------------------------------------- shown */

  showState() {
    const some = [...this.tracks.values()][0];
    const when = new Date(this.createdAt).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const length = some?.duration ? clock(Math.round(some.duration)) : null;
    write(part(this.element, "facts"), [this.model, length, when].filter(Boolean).join(" · "));
    part(this.element, "live").hidden = !this.isLive;
    if (this.isLive) write(part(this.element, "state"), this.liveText());
  }

  liveText() {
    const { state, queue_position: place } = this.view ?? this.first;
    const left_s = this.doneAt ? Math.ceil((this.doneAt - Date.now()) / 1000) : 0;
    const left = left_s > 0 ? `, done in about ${left_s} s` : "";
    if (state === "cancelling") return "Being cancelled …";
    if (state === "running") return `Being made${left}`;
    return place ? `Waiting, number ${place} in the queue${left}` : "Waiting …";
  }

  showRow(track) {
    const row = this.rows.get(track.position) ?? this.newRow(track.position);
    const isDone = track.state === "succeeded";
    row.dataset.state = track.state;
    row.dataset.track = track.id;
    part(row, "play").disabled = !isDone && !LIVE.has(track.state);
    part(row, "text").textContent = this.rowText(track);
    this.showActions(track);
    if (isDone && row.dataset.sketch === undefined) {
      row.dataset.sketch = "wanted";
      seen.observe(row);
    }
  }

  rowText(track) {
    const ends = { failed: this.view?.error?.message ?? "Failed", cancelled: "Cancelled", expired: "Waited too long" };
    const loudness = track.loudness_lufs == null ? null : `${track.loudness_lufs.toFixed(1)} LUFS`;
    return [ends[track.state], `seed ${track.seed}`, loudness].filter(Boolean).join(" · ");
  }

  newRow(position) {
    const row = copyOf("row-template");
    this.rows.set(position, row);
    const after = [...this.rows.keys()].filter((other) => other > position).sort((a, b) => a - b)[0];
    part(this.element, "rows").insertBefore(row, after === undefined ? null : this.rows.get(after));
    part(row, "play").addEventListener("click", () => this.acts.play(this, this.tracks.get(position)));
    part(row, "play").setAttribute("aria-label", this.playLabel(position, false));
    part(row, "text").id = `${this.id}-${position}`;
    row.addEventListener("seen", () => this.sketch(position));
    return row;
  }

  showActions(track) {
    const isDone = track.state === "succeeded";
    const actions = [
      ...(isDone ? this.uses.map((use) => [USES[use].verb, () => this.acts.use(use, this, track)]) : []),
      ["Same again", () => this.acts.again(this, track)],
      ...(isDone ? [["Download", () => this.acts.export(this, track)]] : []),
      ...(LIVE.has(track.state) ? [] : [["Remove", (button) => this.acts.remove(this, track, button)]]),
    ];
    const place = part(this.rows.get(track.position), "actions");
    const names = actions.map(([name]) => name).join();
    if (place.dataset.names === names) return;
    place.dataset.names = names;
    place.replaceChildren(...actions.map(([name, act]) => this.button(name, act, track)));
  }

  button(name, act, track) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.dataset.act = name.toLowerCase().replaceAll(" ", "-");
    button.textContent = name;
    button.setAttribute("aria-describedby", this.rows.get(track.position).querySelector(".row-text").id);
    button.addEventListener("click", () => act(button));
    return button;
  }

  /** What the stage plays moves here, too. */
  showPlaying(position, share, isPlaying) {
    const row = this.rows.get(position);
    if (!row) return;
    row.classList.add("on-stage");
    row.style.setProperty("--played", `${(100 * share).toFixed(1)}%`);
    const label = this.playLabel(position, isPlaying);
    if (part(row, "play").getAttribute("aria-label") !== label) part(row, "play").setAttribute("aria-label", label);
  }

  showNotPlaying(position) {
    const row = this.rows.get(position);
    if (!row) return;
    row.classList.remove("on-stage");
    part(row, "play").setAttribute("aria-label", this.playLabel(position, false));
  }

  playLabel(position, isPlaying) {
    return `${isPlaying ? "Pause" : "Play"} ${this.nameOf(this.tracks.get(position))}`;
  }

  async sketch(position) {
    const row = this.rows.get(position);
    seen.unobserve(row);
    row.dataset.sketch = "asked";
    try {
      const peaks = await askJson(`audio/${this.tracks.get(position).id}/peaks?bins=${BARS}`);
      draw(part(row, "sketch"), peaks);
      row.dataset.sketch = "drawn";
    } catch {
      row.dataset.sketch = "none"; // a picture less; playing it says what is wrong
    }
  }
}

function draw(svg, { minima, maxima, bins }) {
  const loudest = Math.max(1, ...maxima, ...minima.map((level) => -level));
  const bar = (i) => {
    const top = Math.max(QUIETEST, maxima[i] / loudest);
    const bottom = Math.min(-QUIETEST, minima[i] / loudest);
    return `M${i + 0.5} ${(1 - 0.92 * top).toFixed(3)}V${(1 - 0.92 * bottom).toFixed(3)}`;
  };
  svg.setAttribute("viewBox", `0 0 ${bins} 2`);
  const path = Array.from({ length: bins }, (_, i) => bar(i)).join("");
  for (const each of svg.querySelectorAll("path")) each.setAttribute("d", path);
}
