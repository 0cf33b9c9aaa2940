/** The live preview: a small region enlarged by the same pipeline, before and after. */

import { useEffect, useState } from 'preact/hooks';
import * as desk from '../state/desk.ts';
import { S } from '../strings.ts';
import { Trouble } from '../ui/controls.tsx';
import { Stage } from '../ui/Stage.tsx';
import { bitmapSource } from '../viewer/sources.ts';
import type { Scene } from '../viewer/viewer.ts';

export function TestStrip() {
  const scene = useScene();
  const { working, error } = desk.stripState.value;
  const shown = desk.strip.value;
  const crop = desk.stripCrop.value;
  const fresh = shown !== null && shown.picture === desk.current.value;

  return (
    <figure class="easel strip" style={{ '--aspect': '1' }} aria-busy={working}>
        {error ? (
          <Trouble message={error.message} hint={error.hint}>
            <button type="button" onClick={() => (desk.stripAttempt.value += 1)}>
              {S.enlarge.previewAgain}
            </button>
          </Trouble>
        ) : fresh && scene ? (
          <div class="strip-window">
            <div class={`safelight ${working ? 'on' : ''}`} aria-hidden="true" />
            <Stage
              label={S.enlarge.previewTitle}
              scene={scene}
              tick={0}
              leftLabel={S.enlarge.before}
              rightLabel={S.enlarge.after}
            />
          </div>
        ) : (
          <div class="strip-window blank">
            <div class={`safelight ${working ? 'on' : ''}`} aria-hidden="true" />
            <p>{working ? S.enlarge.previewWorking : S.enlarge.previewHint}</p>
          </div>
        )}
      <figcaption>
        <span class="caption-name">{S.enlarge.previewTitle}</span>
        <span class="num" role="status">
          {working
            ? S.enlarge.previewWorking
            : fresh && crop
              ? `${S.enlarge.previewOf(shown.crop.width, shown.crop.height)} · ${S.enlarge.previewTook(shown.seconds)}`
              : ''}
        </span>
      </figcaption>
    </figure>
  );
}

/** The last strip's pixels, decoded. */
function useScene(): Omit<Scene, 'border'> | null {
  const [scene, setScene] = useState<Omit<Scene, 'border'> | null>(null);
  const strip = desk.strip.value;
  useEffect(() => {
    if (!strip) return;
    let stale = false;
    (async () => {
      const after = await createImageBitmap(strip.result);
      const before = await originalOf(strip);
      if (stale) return;
      setScene({
        world: { width: after.width, height: after.height },
        left: bitmapSource(before),
        right: bitmapSource(after),
        layout: 'slider',
        overlay: null,
        lens: false,
      });
    })();
    return () => {
      stale = true;
    };
  }, [strip]);
  return scene;
}

/** The same region of the original, or of the smaller image that is shown for it. */
async function originalOf({ picture, crop }: desk.Strip): Promise<ImageBitmap> {
  const image = new Image();
  image.src = picture.url;
  await image.decode();
  const share = image.naturalWidth / picture.size.width;
  return createImageBitmap(image, crop.x * share, crop.y * share, Math.max(1, crop.width * share), Math.max(1, crop.height * share));
}
