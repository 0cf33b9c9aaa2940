/** "What was invented": the service's grey map of differences, as light to lay over a picture. */

import type { Pixels } from './resample.ts';

/** Grey of a map whose difference is one step of rounding at 8 bits (a map has four times the difference): not shown. */
const DARKEST = 6;
/** Grey from which it glows brightest: beyond, everybody sees the difference. */
const BRIGHTEST = 153;

/** From clear over violet and orange to pale yellow: brighter is more, for every kind of colour vision. */
export function glow({ width, height, data }: Pixels): Pixels {
  const out = new Uint8ClampedArray(data.length);
  for (let at = 0; at < data.length; at += 4) {
    const t = Math.min(1, Math.max(0, (data[at]! - DARKEST) / (BRIGHTEST - DARKEST)));
    const s = Math.sqrt(t);
    out[at] = 90 + 165 * Math.min(1, s * 1.6);
    out[at + 1] = 20 + 225 * Math.max(0, s - 0.25) * 1.33;
    out[at + 2] = 140 * (1 - s) + 120 * Math.max(0, s - 0.7) * 3;
    out[at + 3] = t === 0 ? 0 : 70 + 170 * s;
  }
  return { width, height, data: out };
}
