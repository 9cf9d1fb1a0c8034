// Sound that a generation refers to: a file that is uploaded here, or a track that was made before. One control for
// every use of it; a new use is a line here, and is shown as soon as a model says in `takes` that it takes it.

import { Refused, upload } from "./client.js";
import { clock, copyOf, part } from "./dom.js";
import { clearErrors, closeNotice } from "./problems.js";

export const USES = {
  continuation: {
    label: "Go on from",
    verb: "Extend",
    hint: "A file or a track of yours. It begins the new music and counts toward its duration.",
    lacking: "can not go on from a sound",
  },
  melody: {
    label: "Melody",
    verb: "Use as melody",
    hint: "A file or a track of yours. Its tune is followed, best without voices and drums.",
    lacking: "can not follow a melody",
  },
  style: {
    label: "Style",
    verb: "Use as style",
    hint: "A file or a track of yours. The new music sounds like it.",
    lacking: "can not take a style",
  },
};

export class SourceField {
  /** @param {keyof USES} use @param {(error: Error, field: SourceField) => void} onProblem */
  constructor(use, onProblem) {
    this.use = use;
    this.words = USES[use];
    this.onProblem = onProblem;
    this.lack = null; // why the chosen model can not take it
    this.id = null; // of the upload or track
    this.control = null; // of the upload under way
    this.onChange = () => {};
    this.element = copyOf("source-template");
    this.element.setAttribute("aria-label", this.words.label);
    part(this.element, "label").textContent = this.words.label;
    this.name();
    this.listen();
    this.show();
  }

  /** What the request says; null: nothing. */
  get value() {
    return this.lack === null ? this.id : null;
  }

  get isUploading() {
    return this.control !== null;
  }

  /** The file input is the field of this name, for labels and for errors. */
  name() {
    const file = part(this.element, "file");
    const error = part(this.element, "error");
    file.id = this.use;
    error.id = `${this.use}-error`;
    error.dataset.errorFor = this.use;
    part(this.element, "hint").id = `${this.use}-hint`;
    file.setAttribute("aria-describedby", `${this.use}-hint ${error.id}`);
    file.setAttribute("aria-label", `${this.words.label}: choose a file`);
  }

  listen() {
    const file = part(this.element, "file");
    file.addEventListener("change", () => {
      if (file.files.length > 0) this.bring(file.files[0]);
      file.value = ""; // the same file may be chosen again
    });
    part(this.element, "remove").addEventListener("click", () => {
      this.clear();
      file.focus();
    });
    this.element.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.element.classList.toggle("dropping", this.lack === null);
    });
    this.element.addEventListener("dragleave", () => this.element.classList.remove("dropping"));
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      this.element.classList.remove("dropping");
      if (this.lack === null && event.dataTransfer.files.length > 0) this.bring(event.dataTransfer.files[0]);
    });
  }

  /** @param {string|null} lack why it can not be used with the chosen model */
  allow(lack) {
    this.lack = lack;
    this.show();
  }

  /** Refer to something the server has already. @param {string} text to show for it */
  choose(id, text) {
    this.clear();
    this.id = id;
    this.text = text;
    this.say(`${this.words.label}: ${text}`);
    this.show();
  }

  clear() {
    this.control?.abort();
    this.control = null;
    this.id = null;
    clearErrors(this.element);
    this.show();
  }

  /** Upload a file and refer to it. */
  async bring(file) {
    this.clear();
    closeNotice();
    const control = (this.control = new AbortController());
    this.text = file.name;
    this.show();
    const bar = part(this.element, "progress");
    bar.value = 0;
    try {
      const made = await upload(file, control.signal, (share) => {
        // All sent is not yet all: the server decodes it.
        if (share < 1) bar.value = share;
        else bar.removeAttribute("value");
      });
      this.control = null;
      this.choose(made.id, `${file.name}, ${clock(Math.round(made.duration))}`);
    } catch (error) {
      if (control.signal.aborted) return;
      this.control = null;
      this.show();
      this.onProblem(error, this);
    }
  }

  show() {
    const { element, lack } = this;
    const has = this.id !== null || this.isUploading;
    element.dataset.state = this.isUploading ? "uploading" : this.id === null ? "empty" : "chosen";
    element.classList.toggle("off", lack !== null);
    part(element, "file").disabled = lack !== null || has;
    part(element, "pick").hidden = has;
    part(element, "chosen").hidden = !has;
    part(element, "chosen").textContent = has ? this.text : "";
    part(element, "chosen").title = has ? this.text : "";
    part(element, "remove").hidden = !has;
    part(element, "remove").setAttribute("aria-label", `${this.words.label}: remove ${has ? this.text : ""}`);
    part(element, "progress").hidden = !this.isUploading;
    part(element, "progress").setAttribute("aria-label", `Uploading ${has ? this.text : ""}`);
    part(element, "hint").textContent = lack === null ? this.words.hint : has ? `${lack} It is left out.` : lack;
    this.onChange();
  }

  say(text) {
    part(this.element, "status").textContent = text;
  }
}

/** An upload that failed without an answer may have been too large: some servers hang up then. */
export function uploadProblem(error) {
  if (error instanceof Refused) return error.message;
  return "The file did not arrive: the server can not be reached, or it takes no file as large as this.";
}
