/** "Show changes": the server's grey map of differences, as light to lay over an image. */

import type { Pixels } from './resample.ts';

/** A map is white where the difference is a quarter of white or more. */
const WHITEST = 0.25;
/** Grey of a map up to which it shows nothing: two and a half steps of 8 bits, which is rounding. */
const DARKEST = 10;
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
    out[at + 3] = 240 * s;
  }
  return { width, height, data: out };
}

/** What the light stands for: its ends as shares of white, and the colours between as a CSS gradient. */
export const GLOW = { from: (DARKEST / 255) * WHITEST, to: (BRIGHTEST / 255) * WHITEST, gradient: gradient() };

function gradient(): string {
  const STOPS = 16;
  const data = new Uint8ClampedArray((STOPS + 1) * 4);
  for (let i = 0; i <= STOPS; i += 1) data[i * 4] = DARKEST + ((BRIGHTEST - DARKEST) * i) / STOPS;
  const lit = glow({ width: STOPS + 1, height: 1, data }).data;
  const stops = Array.from({ length: STOPS + 1 }, (_, i) => `rgb(${lit[i * 4]} ${lit[i * 4 + 1]} ${lit[i * 4 + 2]} / ${(lit[i * 4 + 3]! / 255).toFixed(2)})`);
  return `linear-gradient(to right, ${stops.join(', ')})`;
}
