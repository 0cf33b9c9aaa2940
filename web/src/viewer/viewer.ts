/** Draws pictures of any size on a canvas: zoom, pan, a border between two of them, a lens, an overlay. */

import { onLevel } from './protocol.ts';
import { tilesIn, type Source } from './sources.ts';

export type Layout = 'slider' | 'side' | 'single';

/** What is shown. Coordinates of the world are the pixels of the result, whichever picture is drawn. */
export interface Scene {
  world: { width: number; height: number };
  left: Source | null;
  right: Source | null;
  layout: Layout;
  overlay: Source | null;
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
const MAX_ZOOM = 16;
/** Side of a square of the board that shows through transparent images, in CSS pixels, and its two greys. */
const BOARD = 8;
const BOARD_GREYS = ['#c9c9c9', '#b2b2b2'] as const;
/** From here on (device pixels per picture pixel) pixels are shown as squares, as photo programs do. */
const SQUARES = 8;

interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
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
    const pane = this.#panes()[0]!;
    const zoom = Math.min(MAX_ZOOM, Math.max(this.#fitZoom() / 2, this.#view.zoom * factor));
    const ratio = devicePixelRatio;
    const dx = at ? ((at.x * ratio) % pane.width) - pane.width / 2 : 0;
    const dy = at ? at.y * ratio - pane.height / 2 : 0;
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

  #panes(): Rect[] {
    const { width, height } = this.canvas;
    if (this.#scene?.layout !== 'side') return [{ x: 0, y: 0, width, height }];
    const half = Math.floor(width / 2) - 1;
    return [
      { x: 0, y: 0, width: half, height },
      { x: width - half, y: 0, width: half, height },
    ];
  }

  #draw(): void {
    const scene = this.#scene;
    const c = this.#context;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!scene) return;
    const [first, second] = this.#panes();
    if (scene.layout === 'side') {
      this.#paint(scene.left, first!, first!, this.#view);
      this.#paint(scene.right, second!, second!, this.#view);
      this.#paint(scene.overlay, second!, second!, this.#view);
    } else {
      const border = scene.layout === 'slider' ? Math.round(scene.border * first!.width) : 0;
      this.#paint(scene.left, first!, { ...first!, width: border }, this.#view);
      const right = { ...first!, x: border, width: first!.width - border };
      this.#paint(scene.right, first!, right, this.#view);
      this.#paint(scene.overlay, first!, right, this.#view);
    }
    if (scene.lens) this.#paintLens(scene);
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

  /** A round glass that shows both pictures at 1:1, or as large as around it, left and right of its middle. */
  #paintLens(scene: Scene): void {
    const c = this.#context;
    const ratio = devicePixelRatio;
    const pane = this.#panes().at(-1)!;
    const at = this.#pointer
      ? { x: this.#pointer.x * ratio, y: this.#pointer.y * ratio }
      : { x: pane.x + pane.width / 2, y: pane.y + pane.height / 2 };
    const under = this.#panes().find((p) => at.x >= p.x && at.x <= p.x + p.width) ?? pane;
    const worldX = this.#view.x + (at.x - under.x - under.width / 2) / this.#view.zoom;
    const worldY = this.#view.y + (at.y - under.y - under.height / 2) / this.#view.zoom;
    const radius = LENS_RADIUS * ratio;
    const glass: Rect = { x: at.x - radius, y: at.y - radius, width: radius * 2, height: radius * 2 };
    const view: View = { x: worldX, y: worldY, zoom: Math.max(1, ratio, this.#view.zoom) };
    c.save();
    c.beginPath();
    c.arc(at.x, at.y, radius, 0, Math.PI * 2);
    c.clip();
    c.fillStyle = '#000';
    c.fillRect(glass.x, glass.y, glass.width, glass.height);
    const left = scene.layout === 'single' ? null : scene.left;
    if (left) this.#paint(left, glass, { ...glass, width: radius }, view);
    this.#paint(scene.right, glass, left ? { ...glass, x: at.x, width: radius } : glass, view);
    if (left) {
      c.fillStyle = 'rgb(255 255 255 / 0.85)';
      c.fillRect(Math.round(at.x) - 1, glass.y, 2, glass.height);
    }
    c.restore();
    c.beginPath();
    c.arc(at.x, at.y, radius, 0, Math.PI * 2);
    c.lineWidth = 2 * ratio;
    c.strokeStyle = 'rgb(255 255 255 / 0.9)';
    c.stroke();
  }
}
