// What is drawn of a match: pixels into canvases of a worker.

import { MASKED, paintConfidence, paintFlow } from "./colours.js";
import { bestSpread } from "./matches.js";

const DRAWN_MATCHES = 120;
const GAP = 8;
// What may be uncertain of the longest flow that its colour can show.
const OUTLIERS = 0.01;

/** A match at the size at which it is shown, and what can be drawn of it. */
export class Drawing {
  #source;
  #target;
  #scale;
  #flow;
  #confidence;
  #places;
  #inside;
  #warped;

  /** answer: of the network; source, target: pictures. */
  constructor(answer, source, target) {
    this.#source = source.view;
    this.#target = target.view;
    // From px of the source to those in which it is shown.
    this.#scale = [source.view.width / source.width, source.view.height / source.height];
    const { width, height } = target.view;
    this.#flow = new Float32Array(2 * width * height);
    this.#places = new Float32Array(2 * width * height);
    this.#confidence = new Float32Array(width * height);
    let y = 0;
    for (const { places, confidence } of answer.rows(target.view)) {
      const base = y * width;
      this.#places.set(places, 2 * base);
      this.#confidence.set(confidence, base);
      for (let x = 0; x < width; x++) {
        this.#flow[2 * (base + x)] = places[2 * x] - ((x + 0.5) * target.width) / width + 0.5;
        this.#flow[2 * (base + x) + 1] =
          places[2 * x + 1] - ((y + 0.5) * target.height) / height + 0.5;
      }
      y++;
    }
    this.#inside = (i) =>
      this.#places[2 * i] >= 0 &&
      this.#places[2 * i + 1] >= 0 &&
      this.#places[2 * i] <= source.width - 1 &&
      this.#places[2 * i + 1] <= source.height - 1;
    this.#warped = this.#warp();
  }

  /** The share of the target whose confidence reaches the threshold. */
  share(threshold) {
    let count = 0;
    for (const confidence of this.#confidence) count += confidence >= threshold;
    return count / this.#confidence.length;
  }

  /** The source, pulled to the target; dark where the confidence does not suffice. */
  drawWarped(canvas, threshold) {
    const image = new ImageData(this.#target.width, this.#target.height);
    const pixels = new Uint32Array(image.data.buffer);
    pixels.set(new Uint32Array(this.#warped.data.buffer));
    for (let i = 0; i < pixels.length; i++) {
      if (this.#confidence[i] >= threshold) continue;
      for (let c = 0; c < 3; c++) {
        image.data[4 * i + c] = 0.15 * image.data[4 * i + c] + 0.85 * MASKED;
      }
    }
    put(canvas, image);
  }

  drawConfidence(canvas) {
    const image = new ImageData(this.#target.width, this.#target.height);
    this.#confidence.forEach((value, i) => paintConfidence(image.data, 4 * i, value));
    put(canvas, image);
  }

  /** Returns the length of flow, in px, that has the fullest colour. */
  drawFlow(canvas, threshold) {
    const image = new ImageData(this.#target.width, this.#target.height);
    const longest = this.#longest(threshold);
    for (let i = 0; i < this.#confidence.length; i++) {
      paintFlow(image.data, 4 * i, this.#flow[2 * i], this.#flow[2 * i + 1], longest);
    }
    put(canvas, image);
    return longest;
  }

  /** Draws source and target side by side with lines between matches; returns how many. */
  drawMatches(canvas, threshold) {
    const left = this.#source;
    const right = this.#target;
    // Both as high as the target is shown.
    const zoom = right.height / left.height;
    const offset = Math.round(left.width * zoom) + GAP;
    canvas.width = offset + right.width;
    canvas.height = right.height;
    const context = canvas.getContext("2d");
    context.drawImage(asCanvas(left), 0, 0, offset - GAP, canvas.height);
    context.putImageData(right, offset, 0);
    const values = this.#confidence.map((value, i) =>
      value >= threshold && value > 0 && this.#inside(i) ? value : -1,
    );
    const chosen = bestSpread(values, right, DRAWN_MATCHES);
    const unit = Math.max(1, canvas.width / 1000);
    context.lineWidth = unit;
    const drawn = chosen.map((i) => {
      const [x, y] = [i % right.width, Math.floor(i / right.width)];
      // The colour tells the place in the target: lines of one region should stay together.
      const hue = (330 * x) / right.width;
      const colour = `hsl(${hue} 100% ${60 - (25 * y) / right.height}%)`;
      const start = [0, 1].map(
        (axis) => (this.#places[2 * i + axis] + 0.5) * this.#scale[axis] * zoom,
      );
      return { colour, ends: [start, [offset + x + 0.5, y + 0.5]] };
    });
    context.globalAlpha = 0.5;
    for (const { colour, ends } of drawn) {
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(...ends[0]);
      context.lineTo(...ends[1]);
      context.stroke();
    }
    context.globalAlpha = 1;
    for (const { colour, ends } of drawn) {
      context.fillStyle = colour;
      context.strokeStyle = "#222";
      for (const end of ends) {
        context.beginPath();
        context.arc(...end, 3 * unit, 0, 2 * Math.PI);
        context.fill();
        context.stroke();
      }
    }
    return chosen.length;
  }

  /** Bilinear; black outside of the source. */
  #warp() {
    const image = new ImageData(this.#target.width, this.#target.height);
    const { width, height, data } = this.#source;
    for (let i = 0; i < this.#confidence.length; i++) {
      image.data[4 * i + 3] = 255;
      if (!this.#inside(i)) continue;
      const place = (axis, size) =>
        Math.min(
          Math.max((this.#places[2 * i + axis] + 0.5) * this.#scale[axis] - 0.5, 0),
          size - 1,
        );
      const [x, y] = [place(0, width), place(1, height)];
      const [left, top] = [Math.min(Math.floor(x), width - 2), Math.min(Math.floor(y), height - 2)];
      const [right, down] = [x - left, y - top];
      const at = 4 * (top * width + left);
      for (let c = 0; c < 3; c++) {
        const upper = data[at + c] * (1 - right) + data[at + 4 + c] * right;
        const below = at + 4 * width + c;
        const lower = data[below] * (1 - right) + data[below + 4] * right;
        image.data[4 * i + c] = upper * (1 - down) + lower * down;
      }
    }
    return image;
  }

  /** The length that nearly all of the flow stays below whose confidence suffices, at least 1 px. */
  #longest(threshold) {
    const lengths = (accepted) => {
      const found = [];
      for (let i = 0; i < this.#confidence.length; i++) {
        if (accepted(i)) found.push(Math.hypot(this.#flow[2 * i], this.#flow[2 * i + 1]));
      }
      return Float32Array.from(found).sort();
    };
    let sorted = lengths((i) => this.#confidence[i] >= threshold);
    if (!sorted.length) sorted = lengths(() => true);
    return Math.max(1, sorted[Math.floor((1 - OUTLIERS) * (sorted.length - 1))]);
  }
}

/** Shows an image in a canvas, which takes its size. */
export function put(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function asCanvas(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  put(canvas, image);
  return canvas;
}
