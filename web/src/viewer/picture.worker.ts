/** Decodes, cuts and resamples pictures away from the page's own thread. */

import { mayBeTransparent, TRANSPARENCY_BYTES } from '../logic/sniff.ts';
import { glow } from './glow.ts';
import { onLevel, TILE, type FromWorker, type ToWorker } from './protocol.ts';
import { lanczosWindow, type Pixels } from './resample.ts';

declare const self: DedicatedWorkerGlobalScope;

interface Opened {
  width: number;
  height: number;
  transparent: boolean;
  /** One bitmap per level, made when first needed. */
  levels: ImageBitmap[];
}
interface Resampled {
  width: number;
  height: number;
  source: Pixels;
}

const opened = new Map<number, Opened>();
const resampled = new Map<number, Resampled>();

const answer = (message: FromWorker, ...transfer: Transferable[]) => self.postMessage(message, transfer);

// One after the other: two pictures of 100 megapixels are not decoded at once.
let queue: Promise<void> = Promise.resolve();
self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  queue = queue.then(() => handle(data)).catch((error: unknown) => {
    const picture = 'picture' in data ? data.picture : -1;
    answer({ is: 'failed', picture, message: error instanceof Error ? error.message : String(error) });
  });
};

async function handle(message: ToWorker): Promise<void> {
  switch (message.do) {
    case 'open': {
      const { picture, blob } = message;
      const head = new Uint8Array(await blob.slice(0, TRANSPARENCY_BYTES).arrayBuffer());
      return open(picture, await createImageBitmap(blob), mayBeTransparent(head));
    }
    case 'glow':
      // What lies beneath is seen through it, not the board.
      return open(message.picture, await bitmapOf(glow(pixelsOf(await createImageBitmap(message.blob)))), false);
    case 'lanczos': {
      const from = opened.get(message.from);
      if (!from) return;
      const { width, height } = message;
      resampled.set(message.picture, { width, height, source: pixelsOf(from.levels[0]!) });
      return answer({ is: 'opened', picture: message.picture, width, height, transparent: from.transparent });
    }
    case 'tile': {
      const bitmap = await tile(message);
      if (bitmap) answer({ is: 'tile', picture: message.picture, level: message.level, column: message.column, row: message.row, bitmap }, bitmap);
      return;
    }
    case 'close': {
      opened.get(message.picture)?.levels.forEach((b) => b.close());
      opened.delete(message.picture);
      resampled.delete(message.picture);
    }
  }
}

function open(picture: number, bitmap: ImageBitmap, transparent: boolean): void {
  const { width, height } = bitmap;
  opened.set(picture, { width, height, transparent, levels: [bitmap] });
  answer({ is: 'opened', picture, width, height, transparent });
}

async function tile({ picture, level, column, row }: { picture: number; level: number; column: number; row: number }): Promise<ImageBitmap | null> {
  const of = opened.get(picture) ?? resampled.get(picture);
  if (!of) return null;
  const width = onLevel(of.width, level);
  const height = onLevel(of.height, level);
  const x = column * TILE;
  const y = row * TILE;
  const window = { x, y, width: Math.min(TILE, width - x), height: Math.min(TILE, height - y) };
  if (window.width <= 0 || window.height <= 0) return null;
  if ('source' in of) return bitmapOf(lanczosWindow(of.source, width, height, window));
  const bitmap = await levelOf(of, level);
  return createImageBitmap(bitmap, window.x, window.y, window.width, window.height);
}

/** Each level from the one above, by halving: nothing is skipped, so nothing aliases. */
async function levelOf(picture: Opened, level: number): Promise<ImageBitmap> {
  for (let l = picture.levels.length; l <= level; l += 1) {
    const above = picture.levels[l - 1]!;
    picture.levels[l] = await createImageBitmap(above, {
      resizeWidth: onLevel(picture.width, l),
      resizeHeight: onLevel(picture.height, l),
      resizeQuality: 'medium',
    });
  }
  return picture.levels[level]!;
}

function context(width: number, height: number): OffscreenCanvasRenderingContext2D {
  return new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })!;
}

function pixelsOf(bitmap: ImageBitmap): Pixels {
  const canvas = context(bitmap.width, bitmap.height);
  canvas.drawImage(bitmap, 0, 0);
  const { width, height, data } = canvas.getImageData(0, 0, bitmap.width, bitmap.height);
  return { width, height, data };
}

const bitmapOf = ({ data, width, height }: Pixels) => createImageBitmap(new ImageData(data as Uint8ClampedArray<ArrayBuffer>, width, height));
