// The page: its parts, put together, and what its buttons and keys do.

import { Acts } from "./acts.js";
import { askJson, getKey, setKey } from "./client.js";
import { $, copy, write } from "./dom.js";
import { Form } from "./form.js";
import { Library } from "./library.js";
import { Maker } from "./maker.js";
import { clearErrors, markField, showProblem } from "./problems.js";
import { uploadProblem, USES } from "./sources.js";

const MODELS_RETRY_MS = 4000;
const KEY_PAUSE_MS = 500; // after the last letter of a key

const form = new Form((error, field) => {
  showProblem(error, { title: "The upload failed" });
  markField($("compose"), field.use, uploadProblem(error))?.focus();
});
const maker = new Maker(form);
const library = new Library(new Acts(form, maker), (error, title) => {
  showProblem(error, { title, again: () => library.load() });
});
maker.library = library;
let keyTimer = null;
let onStage = null; // the row that shows what the stage plays

async function loadModels() {
  try {
    form.offer((await askJson("models")).data);
  } catch {
    showServer("down", "Server not reachable");
    setTimeout(loadModels, MODELS_RETRY_MS);
    return;
  }
  library.offer(Object.keys(USES).filter((use) => form.models.some((model) => model.takes[use])));
  showModelState();
  if (form.models.some((model) => !model.health.ready)) setTimeout(loadModels, MODELS_RETRY_MS);
}

function showModelState() {
  if (form.model.health.ready) showServer("ready", "Ready");
  else showServer("starting", "Model is starting");
}

function showServer(state, text) {
  $("server").dataset.state = state;
  write($("server-text"), text);
}

/** A server in development needs no key from its own machine; any other asks for one. */
async function loadAccount() {
  try {
    const { credentials } = await (await fetch("version")).json();
    $("key").hidden = credentials !== "required";
    if (credentials === "required" && getKey() === "") return;
  } catch {
    return; // not reachable: the models' line says so
  }
  try {
    form.limit((await askJson("user/usage")).tier);
  } catch (error) {
    if (error.status !== 403) { // a key may be for making music only
      showProblem(error, { title: "Your account could not be looked at", again: loadAccount });
      return;
    }
  }
  await library.load();
  maker.goOn();
}

function keyChanged() {
  setKey($("api_key").value.trim());
  clearTimeout(keyTimer);
  keyTimer = setTimeout(() => {
    clearErrors();
    library.reset();
    loadAccount();
  }, KEY_PAUSE_MS);
}

/** What is set here, as a call; whoever uses it has the key in the environment. */
async function copyCall() {
  const key = getKey() === "" ? [] : ['-H "Authorization: Bearer $TUTTI_API_KEY"'];
  const body = JSON.stringify(form.read()).replaceAll("'", "'\\''");
  const address = new URL("api/v1/generate", location.href);
  const call = ["curl", address, "-H 'Content-Type: application/json'", ...key, `-d '${body}'`].join(" ");
  $("copy-curl-hint").textContent = call;
  if (await copy(call, $("copy-curl-hint"))) $("copy-curl-hint").textContent = "Copied.";
}

function frame(time_ms) {
  const { stage } = maker;
  stage.draw(time_ms);
  if ($("stop").hidden === maker.isMaking) $("stop").hidden = !maker.isMaking;
  const { of, player } = stage.take ?? {};
  const made = of ? library.takes.get(of.id) : undefined;
  if (onStage && (onStage.made !== made || onStage.position !== of.position)) {
    onStage.made.showNotPlaying(onStage.position);
  }
  onStage = made ? { made, position: of.position } : null;
  if (made && player) made.showPlaying(of.position, player.position / player.track.totalSamples, player.wanted);
  requestAnimationFrame(frame);
}

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("generate").disabled) maker.generate();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("compose").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("export").open) maker.stop();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !$("library").hidden) library.refresh(); // made elsewhere meanwhile
});
$("stop").addEventListener("click", () => maker.stop());
$("model").addEventListener("change", showModelState);
$("api_key").addEventListener("input", keyChanged);
$("copy-curl").addEventListener("click", copyCall);
$("fact-seed").addEventListener("click", () => {
  $("seed").value = $("fact-seed").textContent;
  $("advanced").open = true;
  $("seed").focus();
});

$("api_key").value = getKey();
loadAccount();
loadModels();
requestAnimationFrame(frame);
