/** Draws pictures of any size on a canvas: zoom, pan, a border between two of them or all side by side, a lens, light over them. */

import type { Extent } from '../logic/sizes.ts';
import { cells, gridOf, type Rect } from './grid.ts';
import { onLevel } from './protocol.ts';
import { tilesIn, type Source } from './sources.ts';

/** The first and the last picture on two sides of a border, all of them in a grid, or the last alone. */
export type Layout = 'slider' | 'side' | 'single';

/** A picture, and the light that is laid over it. Without a picture its place stays empty. */
export interface Layer {
  source: Source | null;
  overlay?: Source | null;
}

/** What is shown. Coordinates of the world are the pixels of the result, whichever picture is drawn. */
export interface Scene {
  world: Extent;
  layers: readonly Layer[];
  layout: Layout;
  /** Share of the width where the border is, 0..1. */
  border: number;
  lens: boolean;
}

/** The centre in the world and device pixels per world pixel. */
export interface View {
  x: number;
  y: number;
  zoom: number;
}

const LENS_RADIUS = 110;
/** How much larger than around it a lens shows things, at least. */
const LENS_POWER = 2;
const MAX_ZOOM = 16;
/** Between pictures in a grid, in CSS pixels. */
export const GAP = 2;
/** Side of a square of the board that shows through transparent images, in CSS pixels, and its two greys. */
const BOARD = 8;
const BOARD_GREYS = ['#c9c9c9', '#b2b2b2'] as const;
/** From here on (device pixels per picture pixel) pixels are shown as squares, as photo programs do. */
const SQUARES = 8;

/** A part of the canvas, and what it shows: one picture, or two with a border between them. */
interface Pane extends Rect {
  layers: readonly Layer[];
  /** Share of its width that the first of two takes. */
  border: number;
}

export class Viewer {
  readonly #context: CanvasRenderingContext2D;
  #scene: Scene | null = null;
  #view: View = { x: 0, y: 0, zoom: 1 };
  #fitted = true;
  #drawn = 0;
  #pointer: { x: number; y: number } | null = null;
  #pattern: { side: number; pattern: CanvasPattern | null } | null = null;

  /** @param onView hears of each change of the view, and whether the whole picture is fitted in */
  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly onView: (view: View, fitted: boolean) => void,
  ) {
    this.#context = canvas.getContext('2d', { alpha: true })!;
  }

  get view(): View {
    return this.#view;
  }

  /** Shows a scene. The view stays, unless this is the first or the world has another shape. */
  show(scene: Scene): void {
    const before = this.#scene?.world;
    this.#scene = scene;
    if (!before || before.width * scene.world.height !== before.height * scene.world.width) this.fit();
    else if (before.width !== scene.world.width) {
      const ratio = scene.world.width / before.width;
      this.#set({ x: this.#view.x * ratio, y: this.#view.y * ratio, zoom: this.#view.zoom / ratio });
    }
    this.redraw();
  }

  /** Takes up the canvas's size on the page. */
  resize(): void {
    const ratio = devicePixelRatio;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.#fitted) this.fit();
    else this.#set(this.#view);
    this.redraw();
  }

  fit(): void {
    if (!this.#scene) return;
    const { width, height } = this.#scene.world;
    this.#fitted = true;
    this.#set({ x: width / 2, y: height / 2, zoom: this.#fitZoom() });
  }

  /** One pixel of the result on one of the screen's. */
  actual(): void {
    this.zoomBy(1 / this.#view.zoom);
  }

  /** Zooms about a point of the canvas in CSS pixels, or about its middle. */
  zoomBy(factor: number, at?: { x: number; y: number }): void {
    if (!this.#scene) return;
    const zoom = Math.min(MAX_ZOOM, Math.max(this.#fitZoom() / 2, this.#view.zoom * factor));
    const { dx, dy } = at ? this.#fromMiddle(at) : { dx: 0, dy: 0 };
    const { x, y, zoom: before } = this.#view;
    this.#fitted = false;
    this.#set({ x: x + dx / before - dx / zoom, y: y + dy / before - dy / zoom, zoom });
  }

  /** Moves the picture by CSS pixels. */
  panBy(dx: number, dy: number): void {
    const { x, y, zoom } = this.#view;
    const ratio = devicePixelRatio;
    this.#fitted = false;
    this.#set({ x: x - (dx * ratio) / zoom, y: y - (dy * ratio) / zoom, zoom });
  }

  /** Where the lens is, in CSS pixels; `null` puts it in the middle. */
  point(at: { x: number; y: number } | null): void {
    this.#pointer = at;
    if (this.#scene?.lens) this.redraw();
  }

  redraw(): void {
    this.#drawn ||= requestAnimationFrame(() => {
      this.#drawn = 0;
      this.#draw();
    });
  }

  close(): void {
    cancelAnimationFrame(this.#drawn);
  }

  #fitZoom(): number {
    const { width, height } = this.#scene!.world;
    const pane = this.#panes()[0]!;
    return Math.min(pane.width / width, pane.height / height);
  }

  /** How far a point, in CSS pixels, is from the middle of the pane that it is in, in device pixels. */
  #fromMiddle(at: { x: number; y: number }): { dx: number; dy: number } {
    const [x, y] = [at.x * devicePixelRatio, at.y * devicePixelRatio];
    const panes = this.#panes();
    const pane = panes.find((p) => x >= p.x && x <= p.x + p.width && y >= p.y && y <= p.y + p.height) ?? panes[0]!;
    return { dx: x - pane.x - pane.width / 2, dy: y - pane.y - pane.height / 2 };
  }

  #set(view: View): void {
    const scene = this.#scene;
    if (!scene) return;
    // The picture's edge may reach the middle of the canvas, no further: it cannot be lost.
    const x = Math.min(Math.max(view.x, 0), scene.world.width);
    const y = Math.min(Math.max(view.y, 0), scene.world.height);
    this.#view = { x, y, zoom: view.zoom };
    this.onView(this.#view, this.#fitted);
    this.redraw();
  }

  #panes(): Pane[] {
    const { width, height } = this.canvas;
    const whole = { x: 0, y: 0, width, height };
    if (!this.#scene) return [{ ...whole, layers: [], border: 0 }];
    const { layers, layout, world, border } = this.#scene;
    const [first, last] = [layers.at(0), layers.at(-1)];
    if (!first || !last) return [{ ...whole, layers: [], border: 0 }];
    if (layout === 'slider') return [{ ...whole, layers: [first, last], border }];
    if (layout === 'single') return [{ ...whole, layers: [last], border: 0 }];
    const grid = gridOf(layers.length, world, whole);
    return cells(layers.length, grid, whole, Math.round(GAP * devicePixelRatio)).map((cell, i) => ({ ...cell, layers: [layers[i]!], border: 0 }));
  }

  #draw(): void {
    const c = this.#context;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const panes = this.#panes();
    for (const pane of panes) this.#paintPane(pane, this.#view);
    if (this.#scene?.lens) for (const pane of panes) this.#paintLens(pane);
  }

  #paintPane(pane: Pane, view: View): void {
    const split = pane.layers.length > 1 ? Math.round(pane.border * pane.width) : 0;
    const left = { ...pane, width: split };
    const right = { ...pane, x: pane.x + split, width: pane.width - split };
    const last = pane.layers.at(-1);
    for (const [layer, clip] of [[pane.layers.at(0), left], [last, right]] as const) {
      this.#paint(layer?.source ?? null, pane, clip, view);
      this.#paint(layer?.overlay ?? null, pane, clip, view);
    }
  }

  /** Draws a source as seen through `pane`, only where `clip` is. */
  #paint(source: Source | null, pane: Rect, clip: Rect, view: View): void {
    if (!source || clip.width <= 0) return;
    const c = this.#context;
    c.save();
    c.beginPath();
    c.rect(clip.x, clip.y, clip.width, clip.height);
    c.clip();
    this.#paintTiles(source, pane, clip, view);
    c.restore();
  }

  #paintTiles(source: Source, pane: Rect, clip: Rect, view: View): void {
    const { world } = this.#scene!;
    const c = this.#context;
    // Device pixels per pixel of the source.
    const scale = (view.zoom * world.width) / source.width;
    const level = Math.min(Math.max(Math.floor(Math.log2(1 / scale) + 0.5), 0), source.levels - 1);
    const coarsest = source.levels - 1;
    const board = source.transparent ? this.#board() : null;
    c.imageSmoothingEnabled = scale < SQUARES;
    const left = pane.x + pane.width / 2 - view.x * view.zoom;
    const top = pane.y + pane.height / 2 - view.y * view.zoom;

    const placed = (l: number) => {
      const sx = (view.zoom * world.width) / onLevel(source.width, l);
      const sy = (view.zoom * world.height) / onLevel(source.height, l);
      const window = {
        left: (clip.x - left) / sx,
        top: (clip.y - top) / sy,
        right: (clip.x + clip.width - left) / sx,
        bottom: (clip.y + clip.height - top) / sy,
      };
      return [...tilesIn(source, l, window)].map((tile) => ({ tile, sx, sy, bitmap: source.tile(l, tile.column, tile.row) }));
    };
    let tiles = placed(level);
    // The coarsest level is a single tile. While finer ones are missing it lies beneath: never a hole, only less detail.
    if (level < coarsest && tiles.some((t) => !t.bitmap)) tiles = [...placed(coarsest), ...tiles];
    for (const { tile, sx, sy, bitmap } of tiles) {
      if (!bitmap) continue;
      // Edges are rounded the same way for neighbours, or fine lines would show between them.
      const x0 = Math.round(left + tile.x * sx);
      const y0 = Math.round(top + tile.y * sy);
      const x1 = Math.round(left + (tile.x + tile.width) * sx);
      const y1 = Math.round(top + (tile.y + tile.height) * sy);
      if (board) {
        // It also covers a coarser tile beneath, through which it would be drawn twice.
        c.fillStyle = board;
        c.fillRect(x0, y0, x1 - x0, y1 - y0);
      }
      // A source of one level may be far larger than it is shown: averaged, or it would alias.
      c.imageSmoothingQuality = sx < 0.6 ? 'medium' : 'low';
      c.drawImage(bitmap, x0, y0, x1 - x0, y1 - y0);
    }
  }

  #board(): CanvasPattern | null {
    const side = Math.max(1, Math.round(BOARD * devicePixelRatio));
    if (this.#pattern?.side !== side) {
      const sheet = new OffscreenCanvas(side * 2, side * 2);
      const c = sheet.getContext('2d')!;
      [c.fillStyle] = BOARD_GREYS;
      c.fillRect(0, 0, side * 2, side * 2);
      [, c.fillStyle] = BOARD_GREYS;
      c.fillRect(0, 0, side, side);
      c.fillRect(side, side, side, side);
      this.#pattern = { side, pattern: this.#context.createPattern(sheet as unknown as CanvasImageSource, 'repeat') };
    }
    return this.#pattern.pattern;
  }

  /** A round glass in a pane that shows the same at 1:1 or more, and always larger than around it; with a border, both sides of it. */
  #paintLens(pane: Pane): void {
    const c = this.#context;
    const ratio = devicePixelRatio;
    const { dx, dy } = this.#pointer ? this.#fromMiddle(this.#pointer) : { dx: 0, dy: 0 };
    const at = { x: pane.x + pane.width / 2 + dx, y: pane.y + pane.height / 2 + dy };
    const radius = Math.min(LENS_RADIUS * ratio, pane.width / 3);
    const glass: Pane = { ...pane, x: at.x - radius, y: at.y - radius, width: radius * 2, height: radius * 2, border: 0.5 };
    const { x, y, zoom } = this.#view;
    const view: View = { x: x + dx / zoom, y: y + dy / zoom, zoom: Math.max(ratio, zoom * LENS_POWER) };
    c.save();
    c.beginPath();
    c.rect(pane.x, pane.y, pane.width, pane.height);
    c.clip();
    c.beginPath();
    c.arc(at.x, at.y, radius, 0, Math.PI * 2);
    c.save();
    c.clip();
    c.fillStyle = '#000';
    c.fillRect(glass.x, glass.y, glass.width, glass.height);
    this.#paintPane(glass, view);
    if (pane.layers.length > 1) {
      c.fillStyle = 'rgb(255 255 255 / 0.85)';
      c.fillRect(Math.round(at.x) - 1, glass.y, 2, glass.height);
    }
    c.restore();
    c.beginPath();
    c.arc(at.x, at.y, radius, 0, Math.PI * 2);
    c.lineWidth = 2 * ratio;
    c.strokeStyle = 'rgb(255 255 255 / 0.9)';
    c.stroke();
    c.restore();
  }
}
