// The page: form in, music out. What a state looks like is decided here; streaming, playing and drawing are elsewhere.

import { Player } from "./player.js";
import { Cut, Refused, streamMusic, Unreachable } from "./stream.js";
import { wavFile } from "./wav.js";
import { Waveform } from "./waveform.js";

const DEFAULT_DURATION_S = 10;
const DEFAULT_RATE = 32000;
const STEP_S = 1;
const NUMBERS = ["guidance", "temperature", "top_k", "top_p"];
const MODELS_RETRY_MS = 4000;
const KEY = "tutti-api-key"; // in sessionStorage: gone when the tab is closed

const $ = (id) => document.getElementById(id);
const waveform = new Waveform($("canvas"));
let models = [];
let context = null; // one audio device for the life of the page
let take = null; // the generation on the stage
let downloadUrl = null;

/* ------------------------------------------------------------------- what can be asked for */

async function loadModels() {
  try {
    const response = await fetch("api/v1/models");
    if (!response.ok) throw new Error(String(response.status));
    models = (await response.json()).data;
  } catch {
    showServer("down", "Server not reachable");
    setTimeout(loadModels, MODELS_RETRY_MS);
    return;
  }
  const chosen = $("model").value || models.find((model) => model.default)?.id;
  $("model").replaceChildren(...models.map((model) => new Option(model.id, model.id, false, model.id === chosen)));
  showModel();
  if (!currentModel().health.ready) setTimeout(loadModels, MODELS_RETRY_MS);
}

/** A server in development needs no key from its own machine; any other asks for one. */
async function loadVersion() {
  $("api_key").value = sessionStorage.getItem(KEY) ?? "";
  try {
    const { credentials } = await (await fetch("version")).json();
    $("key").hidden = credentials !== "required";
  } catch {
    // Not reachable: the models' line says so, and an answer 401 shows the field as well.
  }
}

function keepKey() {
  const key = $("api_key").value.trim();
  if (key === "") sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

function currentModel() {
  return models.find((model) => model.id === $("model").value);
}

function showModel() {
  const model = currentModel();
  $("model").title = model.description;
  $("model-licence").textContent = `${model.channels === 2 ? "stereo" : "mono"}, ${model.sample_rate / 1000} kHz`;
  $("duration").max = model.max_duration;
  for (const name of NUMBERS) fillNumber($(name), model.parameters[name]);
  showDuration();
  if (model.health.ready) showServer("ready", "Ready");
  else showServer("starting", "Model is starting");
}

function fillNumber(field, range) {
  field.min = range.minimum ?? range.exclusiveMinimum;
  field.max = range.maximum;
  field.placeholder = String(range.default);
}

function showServer(state, text) {
  $("server").dataset.state = state;
  $("server-text").textContent = text;
}

function showDuration() {
  const slider = $("duration");
  const share = (slider.value - slider.min) / (slider.max - slider.min || 1);
  slider.style.setProperty("--fill", `${(100 * share).toFixed(1)}%`);
  slider.setAttribute("aria-valuetext", `${slider.value} seconds`);
  $("duration-value").textContent = `${slider.value} s`;
}

/** The request body. Empty fields are left out: the server's defaults hold. */
function readForm() {
  const body = { prompt: $("prompt").value, duration: Number($("duration").value || DEFAULT_DURATION_S) };
  if ($("model").value) body.model = $("model").value;
  for (const name of NUMBERS) {
    if ($(name).value !== "") body[name] = Number($(name).value);
  }
  if ($("greedy").checked) body.greedy = true;
  const seed = $("seed").value.trim();
  if (seed !== "") body.seed = /^\d+$/.test(seed) ? exactInteger(seed) : seed;
  return body;
}

/** Seeds may be larger than the integers that a JavaScript number holds exactly. */
function exactInteger(digits) {
  const canonical = BigInt(digits).toString();
  return JSON.rawJSON ? JSON.rawJSON(canonical) : Number(canonical);
}

/* ------------------------------------------------------------------------- one generation */

async function generate() {
  stop();
  clearErrors();
  context ??= openAudio(currentModel()?.sample_rate ?? DEFAULT_RATE);
  context.resume(); // inside the click: browsers refuse sound that nobody asked for
  const mine = { control: new AbortController(), askedAt: performance.now(), pieces: [], state: "asking", player: null };
  take?.player?.close();
  take = mine;
  showAsking();
  try {
    await streamMusic(readForm(), $("api_key").value.trim(), mine.control.signal, {
      onStart: (track) => startTrack(mine, track),
      onSamples: (pcm) => addSamples(mine, pcm),
    });
    end(mine, "done");
  } catch (error) {
    if (error.name === "AbortError") end(mine, "stopped");
    else fail(mine, error);
  }
}

function openAudio(sampleRate) {
  try {
    return new AudioContext({ sampleRate, latencyHint: "playback" });
  } catch {
    return new AudioContext(); // the device insists on its own rate; the browser resamples
  }
}

function startTrack(mine, track) {
  mine.track = track;
  mine.player = new Player(context, track);
  mine.player.play();
  waveform.reset(track.totalSamples);
  showTrack(mine);
}

function addSamples(mine, pcm) {
  mine.firstAt ??= performance.now();
  mine.latestAt = performance.now();
  mine.state = "streaming";
  mine.pieces.push(pcm);
  mine.player.append(pcm);
  showProgress(mine);
}

function stop() {
  take?.control.abort();
}

function end(mine, state) {
  mine.state = state;
  mine.player?.finish();
  if (mine !== take) return;
  showIdle();
  if (mine.player === null || mine.player.available === 0) showNothing(state);
  else showEnd(mine);
}

function fail(mine, error) {
  end(mine, error instanceof Cut ? "cut" : "failed");
  if (mine !== take) return;
  if (error instanceof Refused) showRefusal(error);
  else if (error instanceof Cut) showCut(mine);
  else if (error instanceof Unreachable) {
    showNotice("The server can not be reached", "Check that it is running and that you are online, then try again.");
  } else {
    showNotice("Something broke in this page", "Reload it and try again.", String(error));
    throw error;
  }
}

/* ------------------------------------------------------------------------------ what is shown */

function showAsking() {
  setStage("asking");
  $("generate").disabled = true;
  $("stop").hidden = false;
  $("empty").hidden = true;
  $("download").hidden = true;
  $("play").disabled = true;
  $("facts").hidden = true;
  $("position").textContent = "0:00";
  $("length").textContent = "";
  waveform.reset(0);
  say("Waiting for the first notes …");
}

function showTrack(mine) {
  const total_s = mine.track.totalSamples / mine.track.sampleRate;
  setStage("streaming");
  $("facts").hidden = false;
  $("play").disabled = false;
  $("length").textContent = `/ ${clock(total_s)}`;
  $("fact-seed").textContent = mine.track.seed;
  $("wave").setAttribute("aria-disabled", "false");
  $("wave").setAttribute("aria-valuemax", total_s.toFixed(2));
  say("Playing while it is being made.");
}

function showProgress(mine) {
  const { sampleRate, totalSamples } = mine.track;
  const made_s = mine.player.available / sampleRate;
  const spent_s = (mine.latestAt - mine.askedAt) / 1000;
  $("fact-first").textContent = `${((mine.firstAt - mine.askedAt) / 1000).toFixed(2)} s`;
  $("fact-speed").textContent = `${(made_s / spent_s).toFixed(1)}× real time`;
  $("fact-made").textContent = `${made_s.toFixed(1)} of ${(totalSamples / sampleRate).toFixed(1)} s`;
}

function showEnd(mine) {
  const { sampleRate, channels } = mine.track;
  const made_s = (mine.player.available / sampleRate).toFixed(1);
  const spent_s = ((mine.latestAt - mine.askedAt) / 1000).toFixed(1);
  setStage(mine.state);
  if (mine.state === "done") say(`${made_s} s of music, made in ${spent_s} s.`);
  else say(`${made_s} s arrived.`);
  if (downloadUrl !== null) URL.revokeObjectURL(downloadUrl);
  downloadUrl = URL.createObjectURL(wavFile(mine.pieces, sampleRate, channels));
  $("download").href = downloadUrl;
  $("download").download = `tutti-${mine.track.model}-${mine.track.seed}.wav`;
  $("download").setAttribute("aria-label", mine.state === "done" ? "Download as WAV" : "Download what arrived as WAV");
  $("download").hidden = false;
}

function showNothing(state) {
  setStage("idle");
  waveform.reset(0);
  $("empty").hidden = false;
  $("wave").setAttribute("aria-disabled", "true");
  say(state === "stopped" ? "Stopped before the first note." : "Nothing was made.");
}

function showIdle() {
  $("generate").disabled = false;
  $("stop").hidden = true;
}

function showRefusal({ status, error }) {
  if (status === 401) $("key").hidden = false;
  const param = status === 401 ? "api_key" : error.param;
  const found = error.details?.errors ?? [{ param, message: error.message }];
  const marked = found.map(({ param, message }) => markField(param, message));
  if (marked.every(Boolean)) {
    marked[0].focus();
    say("Mend what is marked and try again.");
    return;
  }
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  showNotice(
    "The server refused",
    `${error.message}${wait}`,
    [error.code, status, error.request_id].filter(Boolean).join(" · "),
  );
}

/** Say at a field what is wrong with it. Returns the field, or null if the page has none of that name. */
function markField(name, message) {
  const where = document.querySelector(`[data-error-for="${CSS.escape(name ?? "")}"]`);
  if (where === null) return null;
  const field = $(name);
  field.setAttribute("aria-invalid", "true");
  where.textContent = message;
  where.hidden = false;
  if (field.closest("details")) field.closest("details").open = true;
  return field;
}

function showCut(mine) {
  const made_s = ((mine.player?.available ?? 0) / (mine.track?.sampleRate ?? 1)).toFixed(1);
  const total_s = mine.track ? (mine.track.totalSamples / mine.track.sampleRate).toFixed(1) : "?";
  const again = mine.track ? ` With seed ${mine.track.seed} the same music can be made again.` : "";
  showNotice(
    "Connection cut",
    `${made_s} of ${total_s} s arrived; what is here can be played and downloaded.${again}`,
    mine.track?.id,
  );
}

function showNotice(title, text, small = "") {
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice-small").textContent = small;
  $("notice").hidden = false;
}

function clearErrors() {
  $("notice").hidden = true;
  for (const where of document.querySelectorAll("[data-error-for]")) {
    where.hidden = true;
    $(where.dataset.errorFor).removeAttribute("aria-invalid");
  }
}

function setStage(state) {
  $("stage").dataset.state = state;
}

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/* ----------------------------------------------------------------------------- every frame */

function frame(time_ms) {
  const player = take?.player;
  player?.pump();
  waveform.draw({
    data: player?.data ?? [],
    available: player?.available ?? 0,
    position: player?.position ?? 0,
    waiting: take?.state === "asking",
    time_s: time_ms / 1000,
  });
  if (player) showPosition(player);
  requestAnimationFrame(frame);
}

function showPosition(player) {
  const at_s = player.position / player.track.sampleRate;
  $("position").textContent = clock(at_s);
  $("play").setAttribute("aria-label", player.wanted ? "Pause" : "Play");
  $("wave").setAttribute("aria-valuenow", at_s.toFixed(2));
  $("wave").setAttribute("aria-valuetext", `${at_s.toFixed(1)} seconds`);
  $("stage").dataset.stalls = player.stalls;
}

/* ---------------------------------------------------------------------------------- events */

function togglePlay() {
  const player = take?.player;
  if (!player) return;
  if (player.wanted) player.pause();
  else player.play();
}

function seekTo(event) {
  const player = take?.player;
  if (!player) return;
  const box = $("wave").getBoundingClientRect();
  player.seek(Math.floor(((event.clientX - box.left) / box.width) * player.track.totalSamples));
}

function seekByKey(event) {
  const player = take?.player;
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
  if (event.key === " ") togglePlay();
  else if (event.key in targets) player.seek(Math.floor(targets[event.key]));
  else return;
  event.preventDefault();
}

function useExample(event) {
  const chip = event.target.closest("[data-prompt]");
  if (chip === null) return;
  $("prompt").value = chip.dataset.prompt;
  $("prompt").focus();
  markExample();
}

function markExample() {
  for (const chip of document.querySelectorAll("[data-prompt]")) {
    chip.setAttribute("aria-pressed", String(chip.dataset.prompt === $("prompt").value));
  }
}

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("generate").disabled) generate();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("compose").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
$("stop").addEventListener("click", stop);
$("play").addEventListener("click", togglePlay);
$("wave").addEventListener("keydown", seekByKey);
$("wave").addEventListener("pointerdown", (event) => {
  $("wave").setPointerCapture(event.pointerId);
  seekTo(event);
});
$("wave").addEventListener("pointermove", (event) => {
  if (event.buttons === 1) seekTo(event);
});
$("prompt").addEventListener("input", markExample);
$("examples").addEventListener("click", useExample);
$("duration").addEventListener("input", showDuration);
$("model").addEventListener("change", showModel);
$("api_key").addEventListener("input", keepKey);
$("fact-seed").addEventListener("click", () => {
  $("seed").value = $("fact-seed").textContent;
  $("advanced").open = true;
  $("seed").focus();
});

showDuration();
loadVersion();
loadModels();
requestAnimationFrame(frame);
