/** Pictures as the viewer sees them: tiles of levels, made by a worker when they are needed. */

import { levels, onLevel, TILE, type FromWorker, type ToWorker } from './protocol.ts';

/** Tiles kept, in all pictures: 160 MB at most. */
const KEPT_TILES = 160;
/** Tiles asked for and not yet there. More would only queue up behind what is no longer seen. */
const OUTSTANDING = 6;

export interface Source {
  readonly width: number;
  readonly height: number;
  readonly levels: number;
  /** Side of its tiles in pixels. The last ones of a row or column may be smaller. */
  readonly side: number;
  /** Whether a board is to be seen through it. */
  readonly transparent: boolean;
  /** The tile if it is there; asks for it if not. */
  tile(level: number, column: number, row: number): ImageBitmap | null;
}

/** A bitmap that is there already: one level, and the whole of it is one tile. */
export const bitmapSource = (bitmap: ImageBitmap): Source => ({
  width: bitmap.width,
  height: bitmap.height,
  levels: 1,
  side: Math.max(bitmap.width, bitmap.height),
  transparent: true,
  tile: () => bitmap,
});

/** A worker, the pictures it has open, and the tiles that came from it. */
export class Pictures {
  readonly #worker = new Worker(new URL('./picture.worker.ts', import.meta.url), { type: 'module' });
  /** In order of use. */
  readonly #tiles = new Map<string, ImageBitmap>();
  readonly #asked = new Set<string>();
  readonly #opening = new Map<number, { resolve: (source: Source) => void; reject: (error: Error) => void }>();
  /** Those that have not been released. */
  readonly #ids = new Map<Source, number>();
  #next = 1;

  /** @param onTile called when there is something new to draw */
  constructor(private readonly onTile: () => void) {
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#hear(data);
  }

  open(blob: Blob): Promise<Source> {
    return this.#begin((picture) => ({ do: 'open', picture, blob }));
  }

  /** `source` resampled to another size by Lanczos. */
  lanczos(source: Source, width: number, height: number): Promise<Source> {
    return this.#begin((picture) => ({ do: 'lanczos', picture, from: this.#ids.get(source)!, width, height }));
  }

  /** A grey map as light to lay over a picture. */
  glow(blob: Blob): Promise<Source> {
    return this.#begin((picture) => ({ do: 'glow', picture, blob }));
  }

  /** Lets the worker forget a picture. It has no more tiles. */
  release(source: Source): void {
    const picture = this.#ids.get(source);
    if (picture === undefined) return;
    this.#ids.delete(source);
    this.#say({ do: 'close', picture });
  }

  /** Ends the worker and frees every tile. */
  close(): void {
    this.#worker.terminate();
    this.#tiles.forEach((bitmap) => bitmap.close());
    this.#tiles.clear();
  }

  #id(): number {
    this.#next += 1;
    return this.#next;
  }

  #say(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #begin(message: (picture: number) => ToWorker): Promise<Source> {
    const picture = this.#id();
    return new Promise((resolve, reject) => {
      this.#opening.set(picture, { resolve, reject });
      this.#say(message(picture));
    });
  }

  #hear(data: FromWorker): void {
    if (data.is === 'opened') {
      const source = this.#source(data);
      this.#opening.get(data.picture)?.resolve(source);
      this.#opening.delete(data.picture);
    } else if (data.is === 'tile') {
      const key = `${data.picture}/${data.level}/${data.column}/${data.row}`;
      this.#asked.delete(key);
      this.#tiles.set(key, data.bitmap);
      this.#forget();
      this.onTile();
    } else {
      this.#opening.get(data.picture)?.reject(new Error(data.message));
      this.#opening.delete(data.picture);
    }
  }

  #forget(): void {
    for (const [key, bitmap] of this.#tiles) {
      if (this.#tiles.size <= KEPT_TILES) return;
      bitmap.close();
      this.#tiles.delete(key);
    }
  }

  #source({ picture, width, height, transparent }: Extract<FromWorker, { is: 'opened' }>): Source {
    const source: Source = {
      width,
      height,
      levels: levels(width, height),
      side: TILE,
      transparent,
      tile: (level, column, row) => {
        const key = `${picture}/${level}/${column}/${row}`;
        const bitmap = this.#tiles.get(key);
        if (bitmap) {
          // Moved to the end: the most recently used.
          this.#tiles.delete(key);
          this.#tiles.set(key, bitmap);
          return bitmap;
        }
        if (this.#ids.has(source) && !this.#asked.has(key) && this.#asked.size < OUTSTANDING) {
          this.#asked.add(key);
          this.#say({ do: 'tile', picture, level, column, row });
        }
        return null;
      },
    };
    this.#ids.set(source, picture);
    return source;
  }
}

/** The tiles of a level that touch a window, given in pixels of that level. */
export function* tilesIn(
  source: Source,
  level: number,
  window: { left: number; top: number; right: number; bottom: number },
): Generator<{ column: number; row: number; x: number; y: number; width: number; height: number }> {
  const width = onLevel(source.width, level);
  const height = onLevel(source.height, level);
  const { side } = source;
  const last = (length: number) => Math.ceil(length / side) - 1;
  const from = (v: number) => Math.max(0, Math.floor(v / side));
  for (let row = from(window.top); row <= Math.min(last(height), Math.floor(window.bottom / side)); row += 1) {
    for (let column = from(window.left); column <= Math.min(last(width), Math.floor(window.right / side)); column += 1) {
      const x = column * side;
      const y = row * side;
      yield { column, row, x, y, width: Math.min(side, width - x), height: Math.min(side, height - y) };
    }
  }
}
