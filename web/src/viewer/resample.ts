/** Resampling in plain arithmetic: what the browser's own scaling does is neither specified nor exact. */

export interface Pixels {
  width: number;
  height: number;
  /** RGBA, 8 bits. */
  data: Uint8ClampedArray;
}

const LOBES = 3;

function lanczos(x: number): number {
  if (x === 0) return 1;
  if (Math.abs(x) >= LOBES) return 0;
  const p = Math.PI * x;
  return (LOBES * Math.sin(p) * Math.sin(p / LOBES)) / (p * p);
}

interface Taps {
  first: Int32Array;
  /** `count` weights per output sample; they sum to 1. */
  weights: Float32Array;
  count: number;
}

/** The taps for output samples `start..start+length` of a side that goes from `from` to `to` samples. */
function taps(from: number, to: number, start: number, length: number): Taps {
  const ratio = from / to;
  // When reducing, the kernel widens with the ratio, or it would alias.
  const stretch = Math.max(1, ratio);
  const count = Math.min(from, Math.ceil(LOBES * stretch) * 2 + 1);
  const first = new Int32Array(length);
  const weights = new Float32Array(length * count);
  for (let i = 0; i < length; i += 1) {
    const centre = (start + i + 0.5) * ratio - 0.5;
    const begin = Math.min(Math.max(Math.ceil(centre - LOBES * stretch), 0), from - count);
    first[i] = begin;
    let sum = 0;
    for (let t = 0; t < count; t += 1) {
      const w = lanczos((begin + t - centre) / stretch);
      weights[i * count + t] = w;
      sum += w;
    }
    for (let t = 0; t < count; t += 1) weights[i * count + t]! /= sum;
  }
  return { first, weights, count };
}

/** A window of the picture resampled to `width` x `height` by Lanczos with three lobes. */
export function lanczosWindow(
  source: Pixels,
  width: number,
  height: number,
  window: { x: number; y: number; width: number; height: number },
): Pixels {
  const across = taps(source.width, width, window.x, window.width);
  const down = taps(source.height, height, window.y, window.height);
  const top = down.first[0]!;
  const bottom = down.first[window.height - 1]! + down.count;
  const rows = new Float32Array((bottom - top) * window.width * 4);
  for (let y = top; y < bottom; y += 1) {
    for (let x = 0; x < window.width; x += 1) {
      let r = 0;
      let g = 0;
      let b = 0;
      let a = 0;
      let s = (y * source.width + across.first[x]!) * 4;
      for (let t = x * across.count; t < (x + 1) * across.count; t += 1, s += 4) {
        const w = across.weights[t]!;
        r += w * source.data[s]!;
        g += w * source.data[s + 1]!;
        b += w * source.data[s + 2]!;
        a += w * source.data[s + 3]!;
      }
      const to = ((y - top) * window.width + x) * 4;
      rows[to] = r;
      rows[to + 1] = g;
      rows[to + 2] = b;
      rows[to + 3] = a;
    }
  }
  const data = new Uint8ClampedArray(window.width * window.height * 4);
  const line = new Float32Array(window.width * 4);
  for (let y = 0; y < window.height; y += 1) {
    line.fill(0);
    for (let t = 0; t < down.count; t += 1) {
      const w = down.weights[y * down.count + t]!;
      const from = (down.first[y]! + t - top) * line.length;
      for (let i = 0; i < line.length; i += 1) line[i]! += w * rows[from + i]!;
    }
    data.set(line, y * line.length); // clamps and rounds
  }
  return { width: window.width, height: window.height, data };
}
