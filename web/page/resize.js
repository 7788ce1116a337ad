// Resizing as tfdense/resampling.py does it, so that the network sees the same pixels here and there:
// with half-pixel centres; images average areas along an axis that shrinks, all else is bilinear, and
// bytes are interpolated in the integers in which OpenCV does it.

// Of OpenCV's resizing of bytes: its weights are multiples of 2^-11.
const WEIGHT_BITS = 11;

/** The share of the old positions in each new one; see `pack`. */
function bilinearShares(size, newSize, unit = 1) {
  return pack(newSize, (i) => {
    const place = Math.fround((i + 0.5) * (size / newSize) - 0.5);
    const centre = Math.min(Math.max(place, 0), size - 1);
    const first = Math.min(Math.floor(centre), Math.max(size - 2, 0));
    const share = Math.fround(centre - first);
    const shares = [Math.fround(1 - share), share].slice(0, size);
    return [first, unit === 1 ? shares : shares.map((value) => roundToEven(value * unit))];
  });
}

/** Likewise of bytes: where there are fewer, each new position is the mean of what it covers. */
function byteShares(size, newSize) {
  if (newSize > size) return { ...bilinearShares(size, newSize, 2 ** WEIGHT_BITS), integer: true };
  const scale = size / newSize;
  return pack(newSize, (i) => {
    const [start, end] = [i * scale, Math.min((i + 1) * scale, size)];
    const first = Math.floor(start + 1e-9);
    const weights = [];
    for (let j = first; j < end - 1e-9; j++) {
      weights.push((Math.min(j + 1, end) - Math.max(j, start)) / (end - start));
    }
    return [first, weights];
  });
}

/** Returns starts, ends (of what counts, per new position) and values, in one array. */
function pack(newSize, sharesOf) {
  const starts = new Int32Array(newSize);
  const offsets = new Int32Array(newSize + 1);
  const values = [];
  for (let i = 0; i < newSize; i++) {
    const [first, weights] = sharesOf(i);
    starts[i] = first;
    offsets[i + 1] = offsets[i] + weights.length;
    values.push(...weights);
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
    this.#columns = byteShares(from.width, to.width);
    this.#rows = byteShares(from.height, to.height);
    this.#width = to.width;
    this.#sums = new Float64Array(to.width * to.height * 3);
    this.#row = new Float64Array(to.width * 3);
  }

  /** Takes row `y`, RGBA; rows come from top to bottom. */
  add(y, pixels) {
    const { starts, offsets, values } = this.#columns;
    const row = this.#row;
    const toByte = this.#columns.integer ? roundWeighted : roundToEven;
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
      // Bytes in between, as in Python.
      row[3 * x] = toByte(red);
      row[3 * x + 1] = toByte(green);
      row[3 * x + 2] = toByte(blue);
    }
    this.#share(y, row);
  }

  #share(y, row) {
    const { starts, offsets, values, integer } = this.#rows;
    const end = (i) => starts[i] + offsets[i + 1] - offsets[i];
    while (this.#next < starts.length && end(this.#next) <= y) this.#next++;
    for (let i = this.#next; i < starts.length && starts[i] <= y; i++) {
      const weight = values[offsets[i] + y - starts[i]];
      const base = i * row.length;
      for (let k = 0; k < row.length; k++) {
        const term = weight * row[k];
        // Two bits are kept of each term.
        this.#sums[base + k] += integer ? term >> (WEIGHT_BITS - 2) : term;
      }
    }
  }

  /** The new image, Uint8Array [height, width, 3]. */
  finish() {
    return Uint8Array.from(this.#sums, this.#rows.integer ? (sum) => (sum + 2) >> 2 : roundToEven);
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
    this.#columns = bilinearShares(from.width, to.width);
    this.#rows = bilinearShares(from.height, to.height);
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

function roundWeighted(sum) {
  return (sum + 2 ** (WEIGHT_BITS - 1)) >> WEIGHT_BITS;
}

function roundToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
