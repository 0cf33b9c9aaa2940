/** What the page and its picture worker say to each other. */

/** Side of a tile in pixels. */
export const TILE = 512;

/** Levels are numbered from 0, the full size; each next one is half as wide and high. */
export type ToWorker =
  | { do: 'open'; picture: number; blob: Blob }
  /** A grey map, as light to lay over a picture. */
  | { do: 'glow'; picture: number; blob: Blob }
  /** A picture of the given size, resampled from another by Lanczos, tile by tile as they are asked for. */
  | { do: 'lanczos'; picture: number; from: number; width: number; height: number }
  | { do: 'tile'; picture: number; level: number; column: number; row: number }
  | { do: 'close'; picture: number };

export type FromWorker =
  | { is: 'opened'; picture: number; width: number; height: number; transparent: boolean }
  | { is: 'tile'; picture: number; level: number; column: number; row: number; bitmap: ImageBitmap }
  | { is: 'failed'; picture: number; message: string };

/** How many levels a picture has: the last fits into one tile. */
export function levels(width: number, height: number): number {
  return Math.max(1, Math.ceil(Math.log2(Math.max(width, height) / TILE)) + 1);
}

/** Length of a side on a level. */
export const onLevel = (length: number, level: number) => Math.max(1, Math.ceil(length / 2 ** level));
