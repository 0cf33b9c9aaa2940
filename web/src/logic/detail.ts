/** Where there is most to see in an image. */

export interface Grid {
  width: number;
  height: number;
  /** RGBA, 8 bits each, row by row. */
  data: Uint8ClampedArray;
}

/** Side of the window that is judged, as a share of the image's shorter side. */
const WINDOW = 0.2;

/**
 * Centre of the square with the largest local contrast, the sum of the differences between neighbours, as shares of width and
 * height. Of equal ones the first, from the top left; the middle where all is flat.
 */
export function busiest({ width, height, data }: Grid): { x: number; y: number } {
  const side = Math.max(1, Math.round(Math.min(width, height) * WINDOW));
  // Luma of Rec. 709; what is transparent counts as black.
  const luma = (x: number, y: number) => {
    const i = (y * width + x) * 4;
    return ((0.2126 * data[i]! + 0.7152 * data[i + 1]! + 0.0722 * data[i + 2]!) * data[i + 3]!) / 255;
  };
  // Sums over everything above and left of a point: any square's sum is that of its four corners.
  const sums = new Float64Array((width + 1) * (height + 1));
  const sum = (x: number, y: number) => sums[y * (width + 1) + x]!;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const here = luma(x, y);
      const right = x + 1 < width ? Math.abs(luma(x + 1, y) - here) : 0;
      const below = y + 1 < height ? Math.abs(luma(x, y + 1) - here) : 0;
      sums[(y + 1) * (width + 1) + x + 1] = right + below + sum(x, y + 1) + sum(x + 1, y) - sum(x, y);
    }
  }
  let best = { x: 0.5, y: 0.5, contrast: 1e-6 };
  for (let y = 0; y + side <= height; y += 1) {
    for (let x = 0; x + side <= width; x += 1) {
      const contrast = sum(x + side, y + side) - sum(x, y + side) - sum(x + side, y) + sum(x, y);
      // Sums of fractions differ in their last digits.
      if (contrast > best.contrast + 1e-6) best = { x: (x + side / 2) / width, y: (y + side / 2) / height, contrast };
    }
  }
  return { x: best.x, y: best.y };
}
