// Colours of flows and confidences, those of tfdense/visualize.py.

/** What is shown where the confidence does not suffice. */
export const MASKED = 70;

// Viridis, 0 to 1 in equal steps.
// prettier-ignore
const VIRIDIS = [
  [68, 1, 84], [72, 24, 106], [71, 45, 123], [66, 64, 134], [59, 82, 139], [51, 99, 141],
  [44, 114, 142], [38, 130, 142], [33, 145, 140], [31, 159, 136], [39, 173, 129], [61, 188, 116],
  [92, 200, 99], [129, 211, 77], [170, 220, 50], [213, 226, 26], [253, 231, 37],
];

/** Writes the colour of a confidence in 0..1 to pixels[at...]: dark blue is 0, yellow is 1. */
export function paintConfidence(pixels, at, confidence) {
  const place = Math.min(Math.max(confidence, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(place), VIRIDIS.length - 2);
  for (let c = 0; c < 3; c++) {
    pixels[at + c] = VIRIDIS[i][c] + (place - i) * (VIRIDIS[i + 1][c] - VIRIDIS[i][c]);
  }
  pixels[at + 3] = 255;
}

/**
 * Writes the colour of a flow: the hue is its direction (right is red), the saturation its length,
 * full at `longest`.
 */
export function paintFlow(pixels, at, dx, dy, longest) {
  const saturation = Math.min(Math.hypot(dx, dy) / longest, 1);
  const hue = (Math.atan2(dy, dx) / (2 * Math.PI) + 1) % 1;
  for (let c = 0; c < 3; c++) {
    const sector = (((5 - 2 * c + hue * 6) % 6) + 6) % 6;
    const share = Math.max(0, Math.min(sector, 4 - sector, 1));
    pixels[at + c] = 255 * (1 - saturation * share);
  }
  pixels[at + 3] = 255;
}

/** CSS: a bar of the colours of confidence, 0 at the left. */
export const CONFIDENCE_BAR = `linear-gradient(to right, ${VIRIDIS.map(
  (colour) => `rgb(${colour.join(" ")})`,
).join(", ")})`;

/** Draws a wheel of the colours of flow, whose edge is the longest, into a square canvas. */
export function drawWheel(canvas) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const radius = canvas.width / 2;
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const [dx, dy] = [x + 0.5 - radius, y + 0.5 - radius];
      if (Math.hypot(dx, dy) > radius) continue;
      paintFlow(image.data, 4 * (y * canvas.width + x), dx, dy, radius);
    }
  }
  context.putImageData(image, 0, 0);
}
