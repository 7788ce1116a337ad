// One picture: from a file or the camera to what the network sees of it and what is shown of it.

import { RowResizer } from "./resize.js";
import { InputError } from "./rpc.js";

// As in tfdense/inference/checks.py and tfdense/decoding.py.
const SMALLEST_SIDE = 16;
const LARGEST_SIDE = 32766;
const LARGEST_AREA = 2 ** 28;
const OPAQUE = 128;
// Masked pixels are shown to the network as noise of cells so coarse that it sees them; see
// tfdense/masking.py.
const CELLS = 640;
const NOISE = { width: 67, height: 61 };
const VIEW_SIDE = 1024;
const STRIP_AREA = 2 ** 20;

export class Picture {
  #bitmap;
  #seen = new Map();

  /** Reads a picture. `content` is a Blob or an ImageBitmap, `name` is for messages. */
  static async open(content, name) {
    let bitmap = content;
    // The camera and JPEG have no transparency to look for.
    const opaque = !(content instanceof Blob) || content.type === "image/jpeg";
    if (content instanceof Blob) {
      try {
        // Upright by EXIF, and the values as the file states them: what Python reads.
        bitmap = await createImageBitmap(content, {
          imageOrientation: "from-image",
          colorSpaceConversion: "none",
          premultiplyAlpha: "none",
        });
      } catch {
        throw new InputError(
          `${name} is not a picture that this browser can read (${content.size} bytes).`,
        );
      }
    }
    const { width, height } = bitmap;
    if (Math.min(width, height) < SMALLEST_SIDE || Math.max(width, height) > LARGEST_SIDE) {
      bitmap.close();
      throw new InputError(
        `Expected pictures with sides of ${SMALLEST_SIDE} to ${LARGEST_SIDE} px. ` +
          `Received: ${name} of ${width} x ${height} px.`,
      );
    }
    if (width * height > LARGEST_AREA) {
      bitmap.close();
      throw new InputError(
        `${name} has ${Math.round((width * height) / 1e6)} million px: too many.`,
      );
    }
    try {
      return new Picture(bitmap, name, opaque);
    } catch (error) {
      bitmap.close();
      if (error.expected) throw error;
      throw new InputError(`${name}, ${width} x ${height} px, does not fit into memory.`);
    }
  }

  constructor(bitmap, name, opaque) {
    this.#bitmap = bitmap;
    this.name = name;
    this.width = bitmap.width;
    this.height = bitmap.height;
    /** Which pixels count, Uint8Array of 0 and 1; null if all do. */
    this.mask = opaque ? null : this.#transparency();
    if (this.mask && !this.mask.includes(1)) {
      throw new InputError(`No pixel of ${name} counts: it is transparent throughout.`);
    }
    this.view = this.#draw();
  }

  close() {
    this.#bitmap.close();
  }

  /**
   * What the network sees: Uint8Array [height, width, 3].
   * size: [height, width]; noise: what transparent pixels become, Uint8Array.
   */
  seen([height, width], noise) {
    const key = `${height}x${width} ${noise.role}`;
    if (!this.#seen.has(key)) {
      const resizer = new RowResizer(this, { width, height });
      const cell = Math.ceil(Math.max(this.width, this.height) / CELLS);
      this.#eachRow((y, pixels) => {
        if (this.mask) hide(pixels, y, cell, noise.values);
        resizer.add(y, pixels);
      });
      this.#seen.clear();
      this.#seen.set(key, resizer.finish());
    }
    return this.#seen.get(key).slice();
  }

  /** Calls `use(y, row)` with each row, RGBA. */
  #eachRow(use) {
    const rows = Math.max(1, Math.min(this.height, Math.floor(STRIP_AREA / this.width)));
    const canvas = new OffscreenCanvas(this.width, rows);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let top = 0; top < this.height; top += rows) {
      const count = Math.min(rows, this.height - top);
      context.clearRect(0, 0, this.width, rows);
      context.drawImage(this.#bitmap, 0, -top);
      const { data } = context.getImageData(0, 0, this.width, count);
      for (let y = 0; y < count; y++) {
        use(top + y, data.subarray(4 * y * this.width, 4 * (y + 1) * this.width));
      }
    }
  }

  #transparency() {
    let mask = null;
    this.#eachRow((y, pixels) => {
      for (let x = 0; x < this.width; x++) {
        if (pixels[4 * x + 3] >= OPAQUE) continue;
        mask ??= new Uint8Array(this.width * this.height).fill(1);
        mask[y * this.width + x] = 0;
      }
    });
    return mask;
  }

  /** The picture as it is shown: ImageData of at most VIEW_SIDE px a side. */
  #draw() {
    const scale = Math.min(1, VIEW_SIDE / Math.max(this.width, this.height));
    const side = (length) => Math.max(1, Math.round(length * scale));
    const canvas = new OffscreenCanvas(side(this.width), side(this.height));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#bitmap, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }
}

function hide(pixels, y, cell, noise) {
  const row = Math.floor(y / cell) % NOISE.height;
  for (let x = 0; 4 * x < pixels.length; x++) {
    if (pixels[4 * x + 3] >= OPAQUE) continue;
    const at = 3 * (row * NOISE.width + (Math.floor(x / cell) % NOISE.width));
    for (let c = 0; c < 3; c++) pixels[4 * x + c] = noise[at + c];
  }
}
