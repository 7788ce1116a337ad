// Resizing as tfdense/lite.py does it, so that the network sees the same pixels here and there: a
// triangle around each new position, half-pixel centres, as wide as the coarser of both grids.

/**
 * The share of the old positions in each new one.
 * Returns starts, ends (of what counts, per new position) and values, in one array.
 */
export function shares(size, newSize) {
  const scale = size / newSize;
  const reach = Math.max(scale, 1);
  const starts = new Int32Array(newSize);
  const offsets = new Int32Array(newSize + 1);
  const values = [];
  for (let i = 0; i < newSize; i++) {
    const centre = (i + 0.5) * scale - 0.5;
    const first = Math.max(0, Math.ceil(centre - reach));
    const last = Math.min(size - 1, Math.floor(centre + reach));
    const weights = [];
    for (let j = first; j <= last; j++) {
      weights.push(Math.max(0, 1 - Math.abs(j - centre) / reach));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    starts[i] = first;
    offsets[i + 1] = offsets[i] + weights.length;
    for (const weight of weights) values.push(weight / sum);
  }
  return { starts, offsets, values: Float32Array.from(values) };
}

/** Resizes an image that comes row by row, so that a large one need never be in memory as a whole. */
export class RowResizer {
  #columns;
  #rows;
  #sums;
  #row;
  #width;
  #next = 0;

  /** @param {{width: number, height: number}} from @param {{width: number, height: number}} to */
  constructor(from, to) {
    this.#columns = shares(from.width, to.width);
    this.#rows = shares(from.height, to.height);
    this.#width = to.width;
    this.#sums = new Float64Array(to.width * to.height * 3);
    this.#row = new Float64Array(to.width * 3);
  }

  /** Takes row `y`, RGBA; rows come from top to bottom. */
  add(y, pixels) {
    const { starts, offsets, values } = this.#columns;
    const row = this.#row;
    for (let x = 0; x < this.#width; x++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      let at = starts[x] * 4;
      for (let k = offsets[x]; k < offsets[x + 1]; k++, at += 4) {
        red += values[k] * pixels[at];
        green += values[k] * pixels[at + 1];
        blue += values[k] * pixels[at + 2];
      }
      row[3 * x] = red;
      row[3 * x + 1] = green;
      row[3 * x + 2] = blue;
    }
    this.#share(y, row);
  }

  #share(y, row) {
    const { starts, offsets, values } = this.#rows;
    const end = (i) => starts[i] + offsets[i + 1] - offsets[i];
    while (this.#next < starts.length && end(this.#next) <= y) this.#next++;
    for (let i = this.#next; i < starts.length && starts[i] <= y; i++) {
      const weight = values[offsets[i] + y - starts[i]];
      const base = i * row.length;
      for (let k = 0; k < row.length; k++) this.#sums[base + k] += weight * row[k];
    }
  }

  /** The new image, Uint8Array [height, width, 3]. */
  finish() {
    return Uint8Array.from(this.#sums, roundToEven);
  }
}

/** Resizes [height, width, channels] row by row: `row(y)` returns [new width, channels]. */
export class FieldResizer {
  #columns;
  #rows;
  #values;
  #channels;
  #mixed;
  #out;

  constructor(values, from, channels, to) {
    this.#columns = shares(from.width, to.width);
    this.#rows = shares(from.height, to.height);
    this.#values = values;
    this.#channels = channels;
    this.#mixed = new Float64Array(from.width * channels);
    this.#out = new Float64Array(to.width * channels);
  }

  /** The array is reused by the next call. */
  row(y) {
    const length = this.#mixed.length;
    this.#mixed.fill(0);
    const rows = this.#rows;
    for (let k = rows.offsets[y]; k < rows.offsets[y + 1]; k++) {
      const base = (rows.starts[y] + k - rows.offsets[y]) * length;
      for (let i = 0; i < length; i++) this.#mixed[i] += rows.values[k] * this.#values[base + i];
    }
    const { starts, offsets, values } = this.#columns;
    const channels = this.#channels;
    for (let x = 0; x + 1 < offsets.length; x++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = offsets[x]; k < offsets[x + 1]; k++) {
          sum += values[k] * this.#mixed[(starts[x] + k - offsets[x]) * channels + c];
        }
        this.#out[x * channels + c] = sum;
      }
    }
    return this.#out;
  }
}

function roundToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
