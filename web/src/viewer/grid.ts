/** How several images share a window. */

import type { Extent } from '../logic/sizes.ts';

export interface Rect extends Extent {
  x: number;
  y: number;
}

/** Columns and rows in which `count` images of one shape are shown largest; of equal ones the widest grid. */
export function gridOf(count: number, image: Extent, window: Extent): { columns: number; rows: number } {
  let best = { columns: Math.max(1, count), rows: 1, zoom: 0 };
  for (let columns = Math.max(1, count); columns >= 1; columns -= 1) {
    const rows = Math.ceil(count / columns);
    const zoom = Math.min(window.width / columns / image.width, window.height / rows / image.height);
    if (zoom > best.zoom * 1.001) best = { columns, rows, zoom };
  }
  return { columns: best.columns, rows: best.rows };
}

/** The cells of a grid, row by row, `gap` apart. */
export function cells(count: number, { columns, rows }: { columns: number; rows: number }, window: Extent, gap: number): Rect[] {
  const width = Math.max(1, Math.floor((window.width - gap * (columns - 1)) / columns));
  const height = Math.max(1, Math.floor((window.height - gap * (rows - 1)) / rows));
  return Array.from({ length: count }, (_, i) => ({ x: (i % columns) * (width + gap), y: Math.floor(i / columns) * (height + gap), width, height }));
}
