// What the network answers, brought to the pictures as tfdense/lite.py does it.

import { FieldResizer } from "./resize.js";

const BLOCK_AREA = 2 ** 18;

/** The match of two pictures: for each pixel of the target its place in the source. */
export class Answer {
  #flow;
  #confidence;
  #size;
  #source;
  #target;

  /**
   * flow [height, width, 2] and confidence [height, width] of the network, size its [height, width];
   * source, target: width, height and mask of the pictures.
   */
  constructor({ flow, confidence }, [height, width], source, target) {
    this.#flow = flow;
    this.#confidence = confidence;
    this.#size = { width, height };
    this.#source = source;
    this.#target = target;
    /** R of the confidence in x and in y, in px of the source: one pixel that the network sees. */
    this.radius = [source.width / width, source.height / height];
  }

  /**
   * Yields for each row of a grid over the target its places (x, y) in px of the source, [width, 2],
   * and its confidence [width]. Both arrays are reused for the next row.
   */
  *rows(grid) {
    const flows = new FieldResizer(this.#flow, this.#size, 2, grid);
    const confidences = new FieldResizer(this.#confidence, this.#size, 1, grid);
    const [scaleX, scaleY] = this.radius;
    const ratioX = this.#source.width / grid.width;
    const ratioY = this.#source.height / grid.height;
    for (let y = 0; y < grid.height; y++) {
      const places = flows.row(y);
      const confidence = confidences.row(y);
      for (let x = 0; x < grid.width; x++) {
        places[2 * x] = places[2 * x] * scaleX + (x + 0.5) * ratioX - 0.5;
        places[2 * x + 1] = places[2 * x + 1] * scaleY + (y + 0.5) * ratioY - 0.5;
        if (this.#isMasked(grid, x, y, places[2 * x], places[2 * x + 1])) confidence[x] = 0;
      }
      yield { places, confidence };
    }
  }

  /** Yields flow and confidence at the target's own size, in blocks of rows, as Float32Array. */
  *blocks() {
    const { width, height } = this.#target;
    const most = Math.max(1, Math.floor(BLOCK_AREA / width));
    const rows = this.rows(this.#target);
    for (let top = 0; top < height; top += most) {
      const count = Math.min(most, height - top);
      const flow = new Float32Array(2 * width * count);
      const confidence = new Float32Array(width * count);
      for (let y = 0; y < count; y++) {
        const { places, confidence: row } = rows.next().value;
        for (let x = 0; x < width; x++) {
          flow[2 * (y * width + x)] = places[2 * x] - x;
          flow[2 * (y * width + x) + 1] = places[2 * x + 1] - top - y;
        }
        confidence.set(row, y * width);
      }
      yield { flow, confidence };
    }
  }

  /** As tfdense.masking.is_masked: a place between pixels needs all that surround it. */
  #isMasked(grid, x, y, placeX, placeY) {
    const { mask: targetMask, width: targetWidth, height: targetHeight } = this.#target;
    if (targetMask) {
      const column = Math.floor(((x + 0.5) * targetWidth) / grid.width);
      const row = Math.floor(((y + 0.5) * targetHeight) / grid.height);
      if (!targetMask[row * targetWidth + column]) return true;
    }
    const { mask, width, height } = this.#source;
    if (!mask || placeX < 0 || placeY < 0 || placeX > width - 1 || placeY > height - 1)
      return false;
    for (const row of [Math.floor(placeY), Math.ceil(placeY)]) {
      for (const column of [Math.floor(placeX), Math.ceil(placeX)]) {
        if (!mask[row * width + column]) return true;
      }
    }
    return false;
  }
}
