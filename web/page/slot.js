// The place of one picture: chosen from a file, dropped, pasted, or taken by the camera.

import { cameraError, hasCamera, takePicture } from "./camera.js";

/**
 * Wires a slot.
 * element: holds an <input type=file>, .message, .name and a camera button; dialog: for the camera.
 * open(content, name): reads the picture and resolves to its description, or rejects.
 */
export class Slot {
  #element;
  #message;

  constructor(element, dialog, open) {
    this.#element = element;
    this.#message = element.querySelector(".message");
    const input = element.querySelector("input");
    const take = (file) => file && this.fill(() => open(file, file.name || "the picture"));
    input.addEventListener("change", () => {
      take(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
    this.#acceptDrops(take);
    const camera = element.querySelector("button.camera");
    camera.hidden = !hasCamera();
    camera.addEventListener("click", async () => {
      let picture = null;
      try {
        picture = await takePicture(dialog);
      } catch (error) {
        this.say(cameraError(error));
      }
      if (picture) this.fill(() => open(picture, "camera"));
    });
  }

  /** Shows what `read` gives, or why it does not. */
  async fill(read) {
    this.say("");
    this.#element.setAttribute("aria-busy", "true");
    try {
      this.describe(await read());
    } catch (error) {
      this.say(error.message);
    } finally {
      this.#element.removeAttribute("aria-busy");
    }
  }

  describe(picture) {
    this.#element.classList.toggle("filled", Boolean(picture));
    const name = this.#element.querySelector(".name");
    name.textContent = picture ? `${picture.name}, ${picture.width} × ${picture.height} px` : "";
    if (!picture) return;
    const canvas = this.#element.querySelector("canvas");
    canvas.style.aspectRatio = `${picture.view.width} / ${picture.view.height}`;
  }

  say(message) {
    this.#message.textContent = message;
  }

  #acceptDrops(take) {
    const element = this.#element;
    element.addEventListener("dragover", (event) => {
      event.preventDefault();
      element.classList.add("over");
    });
    element.addEventListener("dragleave", () => element.classList.remove("over"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("over");
      const file = event.dataTransfer.files[0];
      if (file) take(file);
      else this.say("What was dropped is not a file.");
    });
  }
}
