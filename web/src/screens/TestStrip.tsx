/** The live preview: a small region enlarged by the same pipeline, before and after. */

import { useSignal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { Problem } from '../api.ts';
import * as desk from '../state/desk.ts';
import { originalOf } from '../state/region.ts';
import { MOST_PINNED, pin, pinned } from '../state/trials.ts';
import { S } from '../strings.ts';
import type { Crop } from '../wire.ts';
import { Trouble } from '../ui/controls.tsx';
import { Grid } from '../ui/icons.tsx';
import { Stage } from '../ui/Stage.tsx';
import { bitmapSource } from '../viewer/sources.ts';
import type { Scene } from '../viewer/viewer.ts';
import { ContactSheet } from './ContactSheet.tsx';

export function TestStrip() {
  const trying = useSignal<Crop | null>(null);
  const { scene, problem } = useScene();
  const { working, error: refusal } = desk.stripState.value;
  const fault = desk.current.value?.fault.value ?? null;
  const error = fault ?? refusal ?? problem;
  const shown = desk.strip.value;
  const crop = desk.stripCrop.value;
  const fresh = shown !== null && shown.picture === desk.current.value;

  return (
    <figure class="easel strip" style={{ '--aspect': '1' }} aria-busy={working}>
        {error ? (
          <Trouble message={error.message} hint={error.hint}>
            {!fault && (
              <button type="button" onClick={() => (desk.stripAttempt.value += 1)}>
                {S.enlarge.previewAgain}
              </button>
            )}
          </Trouble>
        ) : fresh && scene ? (
          <div class="strip-window">
            <div class={`safelight ${working ? 'on' : ''}`} aria-hidden="true" />
            <Stage
              label={S.enlarge.previewTitle}
              scene={scene}
              tick={0}
              labels={[S.enlarge.before, S.enlarge.after]}
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
            : fresh && scene && crop
              ? `${S.enlarge.previewOf(shown.crop.width, shown.crop.height)} · ${S.enlarge.previewTook(shown.seconds)}`
              : ''}
        </span>
        {!fault && crop && (
          <span class="row caption-tools">
            <button type="button" onClick={() => (trying.value = crop)}>
              <Grid />
              {S.trials.open}
            </button>
            <button type="button" class="bare" title={S.trials.pinHint(MOST_PINNED)} onClick={pin}>
              {pinned.value.length ? S.trials.pinned(pinned.value.length, MOST_PINNED) : S.trials.pin}
            </button>
          </span>
        )}
      </figcaption>
      {trying.value && desk.current.value && (
        <ContactSheet
          picture={desk.current.value}
          crop={trying.value}
          onClose={() => (trying.value = null)}
          onRun={() => {
            trying.value = null;
            desk.runAll();
          }}
        />
      )}
    </figure>
  );
}

interface Seen {
  picture: desk.Picture;
  scene: Omit<Scene, 'border'> | null;
  /** Why there is no scene. */
  problem: { message: string; hint: string | null } | null;
}

/** The last strip's pixels, decoded, if they are the current picture's. The strip before stays until they are. */
function useScene(): Omit<Seen, 'picture'> {
  const [seen, setSeen] = useState<Seen | null>(null);
  const strip = desk.strip.value;
  useEffect(() => {
    if (!strip) return;
    let stale = false;
    const { picture } = strip;
    sceneOf(strip).then(
      (scene) => stale || setSeen({ picture, scene, problem: null }),
      (error) => stale || setSeen({ picture, scene: null, problem: unseen(picture, error) }),
    );
    return () => {
      stale = true;
    };
  }, [strip]);
  return seen && seen.picture === desk.current.value ? seen : { scene: null, problem: null };
}

/** What the server says, or that the browser could not. */
const unseen = (picture: desk.Picture, error: unknown) =>
  error instanceof Problem ? error : { message: S.errors.cannotShow(picture.name), hint: S.errors.cannotShowHint };

async function sceneOf({ picture, crop, result }: desk.Strip): Promise<Omit<Scene, 'border'>> {
  const after = await createImageBitmap(result);
  const before = await originalOf(picture, crop);
  return {
    world: { width: after.width, height: after.height },
    layers: [{ source: bitmapSource(before) }, { source: bitmapSource(after) }],
    layout: 'slider',
    lens: false,
  };
}
