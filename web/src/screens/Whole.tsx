/** The whole picture, with the frame of the test strip to drag about. */

import { useRef } from 'preact/hooks';
import type { Picture } from '../state/desk.ts';
import { stripCrop } from '../state/desk.ts';
import { megapixels, pixels } from '../logic/format.ts';
import { S } from '../strings.ts';

export function Whole({ picture }: { picture: Picture }) {
  const sheet = useRef<HTMLDivElement>(null);
  const { width, height } = picture.size;
  const crop = stripCrop.value;

  const move = (x: number, y: number) => {
    picture.focus.value = { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) };
  };
  const follow = (e: PointerEvent) => {
    const box = sheet.current!.getBoundingClientRect();
    move((e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height);
  };
  function onKeyDown(e: KeyboardEvent) {
    const step = (e.shiftKey ? 1 : 0.25) * ((crop?.width ?? 0) / Math.min(width, height));
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, -step],
      ArrowDown: [0, step],
    };
    const by = moves[e.key];
    if (!by) return;
    e.preventDefault();
    move(picture.focus.value.x + by[0], picture.focus.value.y + by[1]);
  }

  return (
    <figure class="easel" style={{ '--aspect': `${width / height}` }}>
        <div
          ref={sheet}
          class="sheet"
          onPointerDown={(e) => {
            if (e.button !== 0) return;
            e.currentTarget.setPointerCapture(e.pointerId);
            follow(e);
          }}
          onPointerMove={(e) => {
            if (e.currentTarget.hasPointerCapture(e.pointerId)) follow(e);
          }}
        >
          <img src={picture.url} alt={picture.name} draggable={false} />
          {crop && !picture.fault.value && (
            <div
              class="frame"
              tabIndex={0}
              role="group"
              aria-label={S.enlarge.frame}
              onKeyDown={onKeyDown}
              style={{
                '--x': `${(crop.x / width) * 100}%`,
                '--y': `${(crop.y / height) * 100}%`,
                '--w': `${(crop.width / width) * 100}%`,
                '--h': `${(crop.height / height) * 100}%`,
              }}
            />
          )}
        </div>
      <figcaption>
        <span class="caption-name">{picture.name}</span>
        <span class="num">
          {pixels(width, height)} · {megapixels(width, height)}
        </span>
      </figcaption>
    </figure>
  );
}
