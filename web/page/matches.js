// Single matches that are good and lie all over the target, as tfdense/inference/spreading.py does it.

/**
 * Returns the indices of at most `count` pixels of large values, the largest first.
 *
 * The grid is cut into square cells of such a size that at least `count` of them hold a pixel; of the
 * best pixel of each cell, the best `count` are taken. Where `values` are negative none is chosen.
 */
export function bestSpread(values, { width, height }, count) {
  const candidates = values.reduce((sum, value) => sum + (value >= 0), 0);
  const side = Math.max(1, Math.floor(Math.sqrt(candidates / count)));
  const columns = Math.ceil(width / side);
  const best = new Int32Array(columns * Math.ceil(height / side)).fill(-1);
  for (let i = 0; i < values.length; i++) {
    if (!(values[i] >= 0)) continue;
    const cell =
      Math.floor(Math.floor(i / width) / side) * columns + Math.floor((i % width) / side);
    if (best[cell] < 0 || values[i] > values[best[cell]]) best[cell] = i;
  }
  // Where many are equally large, the rows further down must not be left out.
  const order = (i) => Math.imul(i + 1, 0x9e3779b1) >>> 0;
  return [...best]
    .filter((i) => i >= 0)
    .sort((a, b) => values[b] - values[a] || order(a) - order(b))
    .slice(0, count);
}
