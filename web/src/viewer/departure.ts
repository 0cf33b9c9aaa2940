/** "What was invented": where a reduced result departs from the original, and by how much. */

import type { Pixels } from './resample.ts';

/** Differences of this share of full scale or more glow brightest: beyond, everybody sees them. */
const BRIGHTEST = 0.15;
/** Below this, one step of rounding at 8 bits, nothing is shown. */
const DARKEST = 1.5 / 255;

/**
 * @param original RGBA
 * @param reduced RGB, 0..255, of the same size
 * @returns a map to lay over the picture, and the root mean square of the difference as a share of full scale, 0..1
 */
export function departure(original: Pixels, reduced: Float64Array): { map: Pixels; rms: number } {
  const { width, height, data } = original;
  const map = new Uint8ClampedArray(width * height * 4);
  let squares = 0;
  for (let i = 0; i < width * height; i += 1) {
    let square = 0;
    for (let c = 0; c < 3; c += 1) square += ((reduced[i * 3 + c]! - data[i * 4 + c]!) / 255) ** 2;
    square /= 3;
    squares += square;
    glow(Math.sqrt(square), map, i * 4);
  }
  return { map: { width, height, data: map }, rms: Math.sqrt(squares / (width * height)) };
}

/** From clear over violet and orange to pale yellow: brighter is more, for every kind of colour vision. */
function glow(difference: number, map: Uint8ClampedArray, at: number): void {
  const t = Math.min(1, Math.max(0, (difference - DARKEST) / (BRIGHTEST - DARKEST)));
  const s = Math.sqrt(t);
  map[at] = 90 + 165 * Math.min(1, s * 1.6);
  map[at + 1] = 20 + 225 * Math.max(0, s - 0.25) * 1.33;
  map[at + 2] = 140 * (1 - s) + 120 * Math.max(0, s - 0.7) * 3;
  map[at + 3] = t === 0 ? 0 : 70 + 170 * s;
}
