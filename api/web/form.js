// What can be asked for, and what is. The chosen model decides which controls there are; what it can not honour is
// switched off with the reason, never silently left in the request.

import { exactInteger } from "./client.js";
import { $, clock } from "./dom.js";
import { SourceField, USES } from "./sources.js";

const NUMBERS = ["guidance", "temperature", "top_k", "top_p"];
const BESIDE_SOUND = ["guidance_beta", "melody_separation", "style_excerpt", "style_streams"];
const SLIDER_STEPS = 1000;
const FORMATS = {
  wav: "WAV, 16 bits", wav24: "WAV, 24 bits", wav32f: "WAV, float", flac: "FLAC, 16 bits", flac24: "FLAC, 24 bits",
  mp3: "MP3", opus: "Opus", pcm: "PCM, raw",
};

/** Options of a list of formats. */
export function formatOptions(names) {
  return names.map((name) => new Option(FORMATS[name] ?? name, name));
}

export class Form {
  /** @param {(error: Error, field: SourceField) => void} onUploadProblem */
  constructor(onUploadProblem) {
    this.models = [];
    this.tier = null;
    const fields = Object.keys(USES).map((use) => [use, new SourceField(use, onUploadProblem)]);
    this.sources = Object.fromEntries(fields);
    for (const [, field] of fields) field.onChange = () => this.showBeside();
    $("sources").append(...fields.map(([, field]) => field.element));
    $("model").addEventListener("change", () => this.showModel());
    $("duration").addEventListener("input", () => this.showDuration());
    $("duration-slider").addEventListener("input", () => this.slide());
    $("prompt").addEventListener("input", () => this.markExample());
    $("examples").addEventListener("click", (event) => this.useExample(event));
    this.showDuration();
  }

  get model() {
    return this.models.find((model) => model.id === $("model").value);
  }

  /** The sound that is still on its way, if one is. */
  get uploading() {
    return Object.values(this.sources).find((field) => field.isUploading);
  }

  /** The models in the words of GET /api/v1/models. What was chosen stays. */
  offer(models) {
    this.models = models;
    const chosen = $("model").value || models.find((model) => model.default)?.id;
    $("model").replaceChildren(
      ...models.map((model) => {
        const text = model.health.ready ? model.id : `${model.id} (starting)`;
        return new Option(text, model.id, false, model.id === chosen);
      }),
    );
    this.showModel();
  }

  /** What the account's tier allows. */
  limit(tier) {
    this.tier = tier;
    if (this.model) this.showModel();
  }

  showModel() {
    const model = this.model;
    $("model").title = model.description;
    for (const name of NUMBERS) fillNumber($(name), model.parameters[name]);
    const longest_s = Math.min(model.max_duration, this.tier?.max_duration_s ?? Infinity);
    $("duration").max = longest_s;
    $("model-note").textContent = modelNote(model, longest_s);
    this.showTracks(model);
    this.showSources(model);
    this.showFormats(model);
    this.showDuration();
  }

  showTracks(model) {
    const most = this.tier?.max_tracks ?? Math.max(1, ...model.tiers.map((tier) => tier.max_tracks));
    const select = $("num_tracks");
    const chosen = Math.min(Number(select.value), most);
    const counts = Array.from({ length: most }, (_, i) => i + 1);
    select.replaceChildren(...counts.map((n) => new Option(String(n), String(n), false, n === chosen)));
    select.disabled = most === 1;
    select.title = most === 1 ? "Your tier makes one track at a time." : "Made side by side, each from the next seed.";
  }

  showSources(model) {
    let any = false;
    for (const [use, field] of Object.entries(this.sources)) {
      const able = this.models.filter((other) => other.takes[use]);
      const others = able.map((other) => other.id).join(", ");
      field.element.hidden = able.length === 0;
      field.allow(model.takes[use] ? null : `${model.id} ${USES[use].lacking}; ${others} can.`);
      any ||= able.length > 0;
    }
    $("sources").hidden = !any;
    this.showBeside();
  }

  /** What says how a sound is heard: there where a model takes such a sound, and on while there is one. */
  showBeside() {
    const separates = (model) => model.melody_separation === "htdemucs";
    for (const name of BESIDE_SOUND) {
      const place = $(name).closest("[data-beside]");
      const uses = place.dataset.beside.split(" ");
      const able = this.models.filter((model) => uses.some((use) => model.takes[use]));
      place.hidden = !able.some((model) => name !== "melody_separation" || separates(model));
      $(name).disabled = !uses.some((use) => this.sources[use].value !== null);
    }
    if (this.model && !separates(this.model)) $("melody_separation").disabled = true;
  }

  showFormats(model) {
    const select = $("format");
    const chosen = select.value || "wav";
    select.replaceChildren(...formatOptions(model.formats));
    select.value = model.formats.includes(chosen) ? chosen : model.formats[0];
  }

  /** The slider follows the number: by ratio, so that short tracks are as easy to set as long ones. */
  showDuration() {
    const { min, max, value } = $("duration");
    const share = Math.log(Math.max(value, min) / min) / Math.log(max / min || 2);
    const slider = $("duration-slider");
    slider.value = Math.round(SLIDER_STEPS * Math.min(1, share));
    slider.style.setProperty("--fill", `${(100 * Math.min(1, share)).toFixed(1)}%`);
    slider.setAttribute("aria-valuetext", `${value} seconds`);
    this.showStride();
  }

  slide() {
    const { min, max } = $("duration");
    const exact = min * (max / min) ** ($("duration-slider").value / SLIDER_STEPS);
    const step = exact < 15 ? 0.5 : exact < 60 ? 1 : exact < 180 ? 5 : 10;
    $("duration").value = Math.min(max, Math.round(exact / step) * step);
    this.showDuration();
  }

  showStride() {
    const stride = this.model?.extend_stride;
    const field = $("extend_stride");
    field.disabled = !stride || !(Number($("duration").value) > stride.longer_than);
    if (!stride) {
      $("extend_stride-hint").textContent = "This model makes a track in one go.";
      return;
    }
    field.min = stride.minimum;
    field.max = stride.below - Number(field.step);
    field.placeholder = String(stride.default);
    const hint = field.disabled ? `For tracks longer than ${stride.longer_than} s.` : "Seconds that each window adds.";
    $("extend_stride-hint").textContent = hint;
  }

  /** The request body. What is empty or switched off is left out: the server's defaults hold. */
  read() {
    const body = { prompt: $("prompt").value };
    if ($("model").value) body.model = $("model").value;
    for (const name of ["duration", ...NUMBERS]) {
      if ($(name).value !== "") body[name] = Number($(name).value);
    }
    if (Number($("num_tracks").value) > 1) body.num_tracks = Number($("num_tracks").value);
    for (const name of ["extend_stride", ...BESIDE_SOUND]) {
      const { disabled, value } = $(name);
      if (!disabled && value !== "") body[name] = value === "none" ? value : Number(value);
    }
    if ($("greedy").checked) body.greedy = true;
    const seed = $("seed").value.trim();
    if (seed !== "") body.seed = /^\d+$/.test(seed) ? exactInteger(seed) : seed;
    if ($("format").value && $("format").value !== "wav") body.format = $("format").value;
    for (const [use, field] of Object.entries(this.sources)) {
      if (field.value !== null) body[use] = field.value;
    }
    return body;
  }

  /** Everything as it was for a track, so that the same music comes. @param {(id: string) => string} nameOf a sound */
  fill(parameters, seed, nameOf) {
    $("prompt").value = parameters.prompt;
    if (this.models.some((model) => model.id === parameters.model)) $("model").value = parameters.model;
    $("duration").value = parameters.duration;
    $("num_tracks").value = "1";
    $("seed").value = String(seed);
    for (const name of NUMBERS) {
      const usual = this.model.parameters[name].default;
      $(name).value = parameters[name] === usual ? "" : parameters[name];
    }
    $("greedy").checked = parameters.greedy;
    for (const name of ["extend_stride", ...BESIDE_SOUND]) $(name).value = parameters[name] ?? "";
    if (parameters.melody_separation !== "none") $("melody_separation").value = "";
    if (parameters.format !== "pcm") $("format").value = parameters.format; // a stream's own
    for (const [use, field] of Object.entries(this.sources)) {
      if (parameters[use]) field.choose(parameters[use], nameOf(parameters[use]));
      else field.clear();
    }
    this.showModel();
    this.markExample();
    $("prompt").focus();
  }

  /** Refer to a track. With a model that can not, one that can is chosen. */
  use(use, track, text) {
    if (!this.model.takes[use]) {
      const able = this.models.filter((model) => model.takes[use]);
      $("model").value = (able.find((model) => model.health.ready) ?? able[0]).id;
    }
    this.sources[use].choose(track.id, text);
    this.showModel();
    if (use === "continuation" && track.duration >= Number($("duration").value)) {
      $("duration").value = Math.min($("duration").max, Math.ceil(2 * track.duration));
      this.showDuration();
    }
    if ($("prompt").value === "") $("prompt").value = track.prompt;
    $("prompt").focus();
  }

  useExample(event) {
    const chip = event.target.closest("[data-prompt]");
    if (chip === null) return;
    $("prompt").value = chip.dataset.prompt;
    $("prompt").focus();
    this.markExample();
  }

  markExample() {
    for (const chip of document.querySelectorAll("[data-prompt]")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.prompt === $("prompt").value));
    }
  }
}

function fillNumber(field, range) {
  field.min = range.minimum ?? range.exclusiveMinimum;
  field.max = range.maximum;
  field.placeholder = String(range.default);
}

function modelNote(model, longest_s) {
  if (!model.health.ready && model.health.reason) return model.health.reason;
  const sound = model.channels === 2 ? "Stereo" : "Mono";
  return `${sound}, ${model.sample_rate / 1000} kHz, up to ${clock(longest_s)}. Licence: ${model.licence}`;
}
