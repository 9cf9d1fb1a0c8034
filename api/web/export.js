// A finished track as a file, in the form it is wanted. It is fetched and not linked to: a key has no place in a URL.

import { ask, Refused } from "./client.js";
import { $, save } from "./dom.js";
import { formatOptions } from "./form.js";
import { clearErrors, markField } from "./problems.js";

const EXTENSIONS = { wav24: "wav", wav32f: "wav", flac24: "flac" };

export class Export {
  constructor() {
    this.track = null;
    this.control = null;
    $("export-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.control === null) this.save();
    });
    $("export-cancel").addEventListener("click", () => $("export").close());
    $("export").addEventListener("close", () => this.control?.abort());
  }

  /** @param {string} name of the track @param {string[]} formats @param {string} format chosen before */
  open(track, name, formats, format) {
    this.track = track;
    $("export-track").textContent = name;
    $("export-format").replaceChildren(...formatOptions(formats));
    $("export-format").value = format;
    this.clear();
    $("export").showModal();
  }

  clear() {
    clearErrors($("export"));
    $("export-problem").hidden = true;
  }

  async save() {
    this.clear();
    const { id, model, seed } = this.track;
    const format = $("export-format").value;
    const query = new URLSearchParams({ format });
    for (const name of ["sample_rate", "loudness"]) {
      if ($(`export-${name}`).value !== "") query.set(name, $(`export-${name}`).value);
    }
    this.working(new AbortController());
    try {
      const response = await ask(`audio/${id}/data?${query}`, { signal: this.control.signal });
      save(await response.blob(), `tutti-${model}-${seed}.${EXTENSIONS[format] ?? format}`);
      $("export").close();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    } finally {
      this.working(null);
    }
  }

  working(control) {
    this.control = control;
    $("export-save").disabled = control !== null;
    $("export-save").firstElementChild.textContent = control === null ? "Download" : "Preparing …";
  }

  fail(error) {
    const isRefused = error instanceof Refused;
    const marked = isRefused ? markField($("export"), error.error.param, error.message) : null;
    marked?.focus();
    const what = marked ? "" : isRefused ? error.message : "The file did not arrive. Try again.";
    const wait = error.retryAfter ? `Try again in ${error.retryAfter} s.` : "";
    const request = error.error?.request_id ? `Request ${error.error.request_id}` : "";
    $("export-problem").textContent = [what, wait, request].filter(Boolean).join(" ");
    $("export-problem").hidden = $("export-problem").textContent === "";
  }
}
