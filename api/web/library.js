// The account's tracks, the newest first: kept ones, and those that are being made, whoever asked for them. A reload
// finds them again and follows their events to the end.

import { askJson, Refused } from "./client.js";
import { $ } from "./dom.js";
import { states } from "./stream.js";
import { Take } from "./take.js";

const PAGE = 20;
const MOST_FOLLOWED = 3; // a browser opens six connections to a server, and the music needs one
const QUEUE_LOOK_MS = 3000; // a place in the queue is no event: it is looked at
const SEARCH_PAUSE_MS = 200; // after the last letter

export class Library {
  /**
   * @param {Acts} acts what can be done with a track
   * @param {(error: Error, title: string) => void} onProblem
   */
  constructor(acts, onProblem) {
    this.acts = acts;
    this.onProblem = onProblem;
    this.takes = new Map(); // generation id → Take
    this.followed = new Map(); // generation id → AbortController
    this.cursor = null;
    this.turn = 0; // of the search: late answers to an earlier one are dropped
    this.uses = [];
    $("more").addEventListener("click", () => this.more());
    $("search").addEventListener("input", () => {
      clearTimeout(this.searchTimer);
      this.searchTimer = setTimeout(() => this.load(), SEARCH_PAUSE_MS);
    });
    setInterval(() => this.look(), QUEUE_LOOK_MS);
  }

  /** Which uses of a track any model has. */
  offer(uses) {
    this.uses = uses;
    for (const take of this.takes.values()) take.offer(uses);
  }

  get making() {
    return [...this.takes.values()].filter((take) => take.isLive);
  }

  /** Somebody else's tracks from here on. */
  reset() {
    for (const take of [...this.takes.values()]) this.drop(take);
    $("library").hidden = true;
  }

  /** The first page, anew: everything that is not on it is forgotten. */
  async load() {
    const turn = (this.turn += 1);
    const page = await this.page(null);
    if (page === null || turn !== this.turn) return;
    const kept = new Set(page.data.map((track) => track.generation_id));
    for (const take of this.takes.values()) {
      if (!kept.has(take.id) && !this.followed.has(take.id)) this.drop(take);
    }
    this.show(page);
  }

  /** What is new since then, on top. */
  async refresh() {
    const page = await this.page(null);
    if (page !== null) this.show({ ...page, next_cursor: this.takes.size === 0 ? page.next_cursor : this.cursor });
  }

  async more() {
    const page = await this.page(this.cursor);
    if (page === null) return;
    const first = page.data.find((track) => !this.takes.has(track.generation_id));
    this.show(page);
    if (first) this.takes.get(first.generation_id).element.querySelector("button:not(:disabled)")?.focus();
  }

  async page(cursor) {
    const query = new URLSearchParams({ limit: PAGE });
    if (cursor !== null) query.set("cursor", cursor);
    if ($("search").value.trim() !== "") query.set("q", $("search").value.trim());
    try {
      return await askJson(`audio?${query}`);
    } catch (error) {
      if (error.status === 403) this.lock(error.message);
      else this.onProblem(error, "Your tracks could not be listed");
      return null;
    }
  }

  /** A key may be for making music only. */
  lock(reason) {
    $("library").hidden = false;
    $("search").hidden = true;
    $("library-empty").hidden = false;
    $("library-empty").textContent = reason;
  }

  show(page) {
    for (const track of page.data) this.takeOf(track.generation_id, track).learn([track]);
    this.cursor = page.next_cursor;
    $("more").hidden = this.cursor === null;
    this.arrange();
    this.follow();
  }

  /** A generation as its own address or its events give it. */
  learn(view) {
    const { prompt, model } = view.parameters;
    const take = this.takeOf(view.id, { prompt, model, created_at: view.created_at });
    take.learn(view.tracks, view);
    if (!take.element.isConnected) this.arrange();
    this.follow();
    return take;
  }

  takeOf(id, facts) {
    if (!this.takes.has(id)) {
      this.takes.set(id, new Take(id, facts, this.acts, this.uses));
    }
    return this.takes.get(id);
  }

  removed(take, track) {
    take.remove(track);
    if (take.tracks.size === 0) this.drop(take);
    this.arrange();
    $("library-status").textContent = "Removed.";
    $("library-title").focus();
  }

  drop(take) {
    this.followed.get(take.id)?.abort();
    this.takes.delete(take.id);
    take.element.remove();
  }

  /** New ones get their place; what is there is not moved, so that nothing loses the focus. */
  arrange() {
    const sorted = [...this.takes.values()].sort((a, b) => b.createdAt - a.createdAt);
    sorted.forEach((take, i) => {
      const there = $("takes").children[i] ?? null;
      if (there !== take.element) $("takes").insertBefore(take.element, there);
    });
    $("library").hidden = false;
    const isSearch = $("search").value.trim() !== "";
    $("search").hidden = sorted.length === 0 && !isSearch;
    $("library-empty").hidden = sorted.length > 0;
    $("library-empty").textContent = isSearch ? "No prompt holds that." : "What you make is kept here.";
  }

  /* ----------------------------------------------------------------------- those being made */

  follow() {
    for (const take of this.making) {
      if (this.followed.size >= MOST_FOLLOWED) return;
      if (!this.followed.has(take.id)) this.followOne(take);
    }
  }

  async followOne(take) {
    const control = new AbortController();
    this.followed.set(take.id, control);
    try {
      for await (const view of states(take.id, control.signal)) {
        take.learn(view.tracks, view);
        if (!take.isLive) this.acts.ended(take);
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 404) this.drop(take);
      else if (error.name !== "AbortError") {
        this.onProblem(error, "A generation could not be followed");
        return; // its place stays taken: it is not tried again at once
      }
    }
    this.followed.delete(take.id);
    this.follow();
  }

  async look() {
    for (const take of this.making.filter((one) => one.isQueued && this.followed.has(one.id))) {
      try {
        const view = await askJson(`generate/${take.id}`);
        take.learn(view.tracks, view);
      } catch {
        return; // its events say what is wrong
      }
    }
    for (const take of this.making) take.showState();
  }
}
