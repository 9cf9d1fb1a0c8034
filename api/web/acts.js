// What can be done with a track of the list.

import { ask, askJson } from "./client.js";
import { $ } from "./dom.js";
import { Export } from "./export.js";
import { showNotice, showProblem } from "./problems.js";

export class Acts {
  /** @param {Form} form @param {Maker} maker */
  constructor(form, maker) {
    this.form = form;
    this.maker = maker;
    this.files = new Export();
  }

  play(made, track) {
    const { stage } = this.maker;
    if (stage.isOn(made.id, track.position) && stage.take.player) stage.toggle();
    else this.maker.hear(made, track);
  }

  /** Let the next generation refer to it. @param {string} use as in USES */
  use(use, made, track) {
    this.form.use(use, track, made.nameOf(track));
  }

  /** Fill the form with all it was made with. */
  async again(made, track) {
    try {
      const { parameters } = made.view ?? (await askJson(`generate/${made.id}`));
      this.form.fill(parameters, track.seed, (id) => this.nameOfSound(id));
      if (parameters.model !== this.form.model.id) {
        const text = `It was made by ${parameters.model}; ${this.form.model.id} will make something else of it.`;
        showNotice("Its model is not served any more", text);
      }
    } catch (error) {
      showProblem(error, { title: "Its parameters could not be read", again: () => this.again(made, track) });
    }
  }

  nameOfSound(id) {
    for (const made of this.maker.library.takes.values()) {
      for (const track of made.tracks.values()) if (track.id === id) return made.nameOf(track);
    }
    return id.startsWith("upl_") ? "an uploaded file" : "an earlier track";
  }

  export(made, track) {
    const model = this.form.models.find((one) => one.id === made.model) ?? this.form.model;
    this.files.open(track, made.nameOf(track), model.formats, $("format").value);
  }

  /** The first press asks, the second one does it. */
  async remove(made, track, button) {
    if (button.dataset.sure === undefined) {
      askFirst(button);
      return;
    }
    try {
      await ask(`audio/${track.id}`, { method: "DELETE" });
      this.maker.library.removed(made, track);
    } catch (error) {
      showProblem(error, { title: "It could not be removed" });
    }
  }

  async cancel(made) {
    if (this.maker.isMaking && this.maker.stage.take.of?.id === made.id) {
      this.maker.stop();
      return;
    }
    try {
      await ask(`generate/${made.id}/cancel`, { method: "POST" });
    } catch (error) {
      showProblem(error, { title: "It could not be cancelled" });
    }
  }

  /** Its events have told the end; the stage may know less of its track. */
  ended(made) {
    const { of } = this.maker.stage.take ?? {};
    const track = of?.id === made.id ? made.tracks.get(of.position) : null;
    if (track?.loudness_lufs != null) $("fact-loudness").textContent = `${track.loudness_lufs.toFixed(1)} LUFS`;
  }
}

function askFirst(button) {
  const name = button.textContent;
  button.dataset.sure = "";
  button.textContent = "Remove for good?";
  const forget = () => {
    delete button.dataset.sure;
    button.textContent = name;
  };
  button.addEventListener("blur", forget, { once: true });
}
