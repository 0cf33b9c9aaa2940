/** A running task as a picture: the source, dim, and its tiles as they finish. */

import { useEffect, useRef } from 'preact/hooks';
import * as api from '../api.ts';
import * as store from '../state/tasks.ts';
import type { Task } from '../types.ts';

/** Longest side of the drawing, in pixels. */
const SIDE = 480;

export function TileProgress({ task }: { task: Task }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { width = 4, height = 3 } = task.source ?? {};
  const scale = SIDE / Math.max(width, height);

  useEffect(() => {
    const c = canvas.current!.getContext('2d')!;
    const w = c.canvas.width;
    const h = c.canvas.height;
    const onTile = async (tile: { task_id: string; x: number; y: number; width: number; height: number; jpeg: string }) => {
      if (tile.task_id !== task.task_id) return;
      const bytes = Uint8Array.from(atob(tile.jpeg), (ch) => ch.charCodeAt(0));
      const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }));
      c.drawImage(bitmap, tile.x * w, tile.y * h, tile.width * w, tile.height * h);
    };
    store.tileListeners.add(onTile);
    return () => void store.tileListeners.delete(onTile);
  }, [task.task_id]);

  return (
    <div class="tiles">
      {task.thumb_url && <img src={api.local(task.thumb_url)} alt="" />}
      <canvas ref={canvas} width={Math.round(width * scale)} height={Math.round(height * scale)} aria-hidden="true" />
    </div>
  );
}
