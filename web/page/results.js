// What is shown of a match, and what the user does with it.

import { CONFIDENCE_BAR, drawWheel } from "./colours.js";

const FILES = {
  npz: "match.npz",
  flo: "flow.flo",
  warped: "warp.png",
  confidence: "confidence.png",
  flow: "flow.png",
  matches: "matches.png",
};
const byId = (id) => document.getElementById(id);

/** The figures of a match; what they show is drawn by the pixel worker. */
export class Results {
  #pixels;
  #section = byId("results");
  #threshold = byId("threshold");
  #drawing = false;
  #drawn = null;

  /** pixels: the worker, as a Remote. */
  constructor(pixels) {
    this.#pixels = pixels;
    byId("bar").style.background = CONFIDENCE_BAR;
    drawWheel(byId("wheel"));
    this.#threshold.addEventListener("input", () => this.#redraw());
    const swipe = byId("swipe");
    const place = () => swipe.parentElement.style.setProperty("--place", `${swipe.value}%`);
    swipe.addEventListener("input", place);
    place();
    for (const button of this.#section.querySelectorAll("button[data-save]")) {
      button.addEventListener("click", () => this.#save(button));
    }
  }

  /** Shows an answer of the network for the pictures that the worker holds. */
  async show({ flow, confidence }, size) {
    const threshold = this.#threshold.valueAsNumber;
    const argument = { flow, confidence, size, threshold };
    const shown = await this.#pixels.call("show", argument, [flow.buffer, confidence.buffer]);
    this.#section.hidden = false;
    for (const id of ["under", "warped", "confidence", "flow"]) {
      byId(id).style.aspectRatio = `${shown.width} / ${shown.height}`;
    }
    const radius = shown.radius.map((value) => Number(value.toPrecision(3)));
    byId("radius").textContent =
      `The probability that the place is right to ${radius[0]} px in x and ${radius[1]} px in y, of the source.`;
    this.#describe(shown, threshold);
  }

  /** While it is drawn, only the newest value of the threshold waits. */
  async #redraw() {
    byId("threshold-value").value = this.#threshold.valueAsNumber.toFixed(2);
    if (this.#drawing) return;
    this.#drawing = true;
    try {
      while (this.#drawn !== this.#threshold.valueAsNumber) {
        const threshold = this.#threshold.valueAsNumber;
        this.#describe(await this.#pixels.call("redraw", { threshold }), threshold);
      }
    } finally {
      this.#drawing = false;
    }
  }

  #describe({ share, longest, lines, matches }, threshold) {
    this.#drawn = threshold;
    byId("matches").style.aspectRatio = `${matches.width} / ${matches.height}`;
    byId("share").textContent = `${(100 * share).toFixed(1)} % of the target is matched.`;
    byId("longest").textContent =
      `Edge of the wheel: ${Number(longest.toPrecision(3))} px. Right is red, left is cyan.`;
    byId("lines").textContent = lines
      ? `${lines} of the best, all over the target; a line's colour tells its place there.`
      : "No match reaches the least confidence.";
  }

  async #save(button) {
    const kind = button.dataset.save;
    const message = byId("save-message");
    message.textContent = "";
    button.disabled = true;
    try {
      const url = URL.createObjectURL(await this.#pixels.call("file", { kind }));
      Object.assign(document.createElement("a"), { href: url, download: FILES[kind] }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      message.textContent = `${FILES[kind]} could not be made: ${error.message}`;
    } finally {
      button.disabled = false;
      button.focus();
    }
  }
}
