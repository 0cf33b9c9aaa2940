/** The viewer on the page: canvas, border handle, pointer, wheel and keys. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { S } from '../strings.ts';
import { gridOf } from '../viewer/grid.ts';
import { GAP, Viewer, type Scene, type View } from '../viewer/viewer.ts';

interface StageProps {
  label: string;
  scene: Omit<Scene, 'border'> | null;
  /** Raised when tiles have come in. */
  tick: number;
  onView?: (view: View, fitted: boolean) => void;
  /** Receives the viewer once it is there, and `null` when it goes. */
  onViewer?: (viewer: Viewer | null) => void;
  /** What each layer is. */
  labels: readonly string[];
  /** What is in front of each image of a grid, at its bottom. */
  front?: (index: number) => ComponentChildren;
  /** Whether the wheel zooms, or is left to the page. */
  zoomable?: boolean;
}

const PAN_STEP = 60;
const ZOOM_STEP = 1.25;
const BORDER_STEP = 0.02;

export function Stage({ label, scene, tick, onView, onViewer, labels, front, zoomable = true }: StageProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const viewer = useRef<Viewer | null>(null);
  const [border, setBorder] = useState(0.5);
  const [size, setSize] = useState({ width: 1, height: 1 });

  useEffect(() => {
    const element = canvas.current!;
    const made = new Viewer(element, (view, fitted) => onView?.(view, fitted));
    viewer.current = made;
    onViewer?.(made);
    const observer = new ResizeObserver(() => {
      made.resize();
      setSize({ width: element.clientWidth, height: element.clientHeight });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.close();
      onViewer?.(null);
    };
  }, []);

  useEffect(() => {
    if (scene) viewer.current?.show({ ...scene, border });
  }, [scene, border]);
  useEffect(() => viewer.current?.redraw(), [tick]);

  const clampBorder = (share: number) => setBorder(Math.min(1, Math.max(0, share)));
  const split = scene?.layout === 'slider';

  function onKeyDown(e: KeyboardEvent) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const v = viewer.current;
    const step = e.shiftKey ? PAN_STEP * 4 : PAN_STEP;
    const pans: Record<string, [number, number]> = {
      ArrowLeft: [step, 0],
      ArrowRight: [-step, 0],
      ArrowUp: [0, step],
      ArrowDown: [0, -step],
    };
    const pan = pans[e.key];
    if (pan) v?.panBy(...pan);
    else if (e.key === '+' || e.key === '=') v?.zoomBy(ZOOM_STEP);
    else if (e.key === '-') v?.zoomBy(1 / ZOOM_STEP);
    else if (e.key === '0') v?.fit();
    else if (e.key === 'f' || e.key === 'F') v?.actual();
    else if (e.key === '[') clampBorder(border - BORDER_STEP);
    else if (e.key === ']') clampBorder(border + BORDER_STEP);
    else return;
    e.preventDefault();
  }

  return (
    <div class="stage">
      <canvas
        ref={canvas}
        class="stage-canvas"
        tabIndex={0}
        role="img"
        aria-label={label}
        onKeyDown={onKeyDown}
        {...usePointers(viewer, zoomable)}
      />
      {scene?.layout === 'side' ? (
        <Grid scene={scene} size={size} labels={labels} front={front} />
      ) : (
        <>
          {split && <span class="tag tag-left" aria-hidden="true">{labels.at(0)}</span>}
          {scene && <span class="tag tag-right" aria-hidden="true">{labels.at(-1)}</span>}
        </>
      )}
      {split && (
        <div
          class="border-handle"
          role="slider"
          tabIndex={0}
          aria-label={S.compare.sliderHandle}
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(border * 100)}
          style={{ '--border': `${border * 100}%` }}
          onKeyDown={(e) => {
            const moves: Record<string, number> = {
              ArrowLeft: border - BORDER_STEP,
              ArrowDown: border - BORDER_STEP,
              ArrowRight: border + BORDER_STEP,
              ArrowUp: border + BORDER_STEP,
              PageDown: border - 0.1,
              PageUp: border + 0.1,
              Home: 0,
              End: 1,
            };
            const to = moves[e.key];
            if (to === undefined) return;
            clampBorder(to);
            e.preventDefault();
          }}
          onPointerDown={(e) => {
            e.currentTarget.setPointerCapture(e.pointerId);
            e.preventDefault();
            e.currentTarget.focus({ focusVisible: false } as FocusOptions);
          }}
          onPointerMove={(e) => {
            if (!e.currentTarget.hasPointerCapture(e.pointerId)) return;
            const box = canvas.current!.getBoundingClientRect();
            clampBorder((e.clientX - box.left) / box.width);
          }}
        >
          <span class="border-grip" />
        </div>
      )}
    </div>
  );
}

/** The cells of a grid of images, over the canvas that draws them. */
function Grid({ scene, size, labels, front }: Pick<StageProps, 'labels' | 'front'> & { scene: Omit<Scene, 'border'>; size: Scene['world'] }) {
  const { columns, rows } = gridOf(scene.layers.length, scene.world, size);
  const style = { gap: `${GAP}px`, gridTemplate: `repeat(${rows}, minmax(0, 1fr)) / repeat(${columns}, minmax(0, 1fr))` };
  return (
    <ul class="stage-grid" style={style}>
      {labels.map((label, i) => (
        <li key={i}>
          <span class="tag tag-left">{label}</span>
          {front?.(i)}
        </li>
      ))}
    </ul>
  );
}

/** Dragging with one pointer pans, two zoom, the wheel zooms. */
function usePointers(viewer: { current: Viewer | null }, zoomable: boolean) {
  const held = useRef(new Map<number, { x: number; y: number }>());
  const spot = (e: MouseEvent) => {
    const box = (e.currentTarget as Element).getBoundingClientRect();
    return { x: e.clientX - box.left, y: e.clientY - box.top };
  };
  const spread = () => {
    const [a, b] = [...held.current.values()];
    return a && b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  };
  return {
    onPointerDown: (e: PointerEvent) => {
      if (e.button !== 0) return;
      (e.currentTarget as Element).setPointerCapture(e.pointerId);
      held.current.set(e.pointerId, spot(e));
    },
    onPointerMove: (e: PointerEvent) => {
      const now = spot(e);
      const before = held.current.get(e.pointerId);
      viewer.current?.point(now);
      if (!before) return;
      const wide = spread();
      held.current.set(e.pointerId, now);
      const share = 1 / held.current.size;
      viewer.current?.panBy((now.x - before.x) * share, (now.y - before.y) * share);
      if (wide) viewer.current?.zoomBy(spread() / wide, now);
    },
    onPointerUp: (e: PointerEvent) => held.current.delete(e.pointerId),
    onPointerCancel: (e: PointerEvent) => held.current.delete(e.pointerId),
    onPointerLeave: () => viewer.current?.point(null),
    ...(zoomable
      ? {
          onWheel: (e: WheelEvent) => {
            e.preventDefault();
            viewer.current?.zoomBy(2 ** (-e.deltaY / 400), spot(e));
          },
          onDblClick: (e: MouseEvent) => viewer.current?.zoomBy(2, spot(e)),
        }
      : {}),
  };
}
