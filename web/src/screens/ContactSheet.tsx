/** A contact sheet: the area of the test strip with several settings, beside each other under one zoom. One is picked. */

import { useSignal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import * as api from '../api.ts';
import type { Picture } from '../state/desk.ts';
import { MOST_PINNED, pinned, SETS, trialsOf, tryAll, type SetName, type Tried } from '../state/trials.ts';
import { originalOf } from '../state/region.ts';
import { change } from '../state/settings.ts';
import { S } from '../strings.ts';
import { complain } from '../state/store.ts';
import type { Crop } from '../wire.ts';
import { Choice, Dialog } from '../ui/controls.tsx';
import { Check } from '../ui/icons.tsx';
import { Stage } from '../ui/Stage.tsx';
import { bitmapSource } from '../viewer/sources.ts';
import type { Scene } from '../viewer/viewer.ts';

interface ContactSheetProps {
  picture: Picture;
  crop: Crop;
  /** Enlarges with what was picked. */
  onRun: () => void;
  onClose: () => void;
}

export function ContactSheet({ picture, crop, onRun, onClose }: ContactSheetProps) {
  const set = useSignal<SetName>(pinned.value.length > 1 ? 'pinned' : 'models');
  const tried = useSignal<readonly Tried[]>([]);
  const original = useSignal<ImageBitmap | null>(null);

  useEffect(() => {
    originalOf(picture, crop).then((bitmap) => (original.value = bitmap), complain);
  }, []);
  useEffect(() => {
    const stop = new AbortController();
    tried.value = [];
    (async () => {
      const models = set.value === 'models' ? await api.models() : [];
      if (stop.signal.aborted) return;
      await tryAll(picture, crop, trialsOf(set.value, models), (all) => (tried.value = all), stop.signal);
    })().catch((error) => stop.signal.aborted || complain(error));
    return () => stop.abort();
  }, [set.value]);

  const list = tried.value;
  const scene = useMemo<Omit<Scene, 'border'> | null>(() => {
    const some = list.find(({ bitmap }) => bitmap)?.bitmap;
    if (!some) return null;
    const layer = (bitmap: ImageBitmap | null) => ({ source: bitmap && bitmapSource(bitmap) });
    const layers = [layer(original.value), ...list.map(({ bitmap }) => layer(bitmap))];
    return { world: { width: some.width, height: some.height }, layers, layout: 'side', lens: false };
  }, [list, original.value]);
  const done = list.filter(({ bitmap, problem }) => bitmap || problem).length;

  const pick = ({ trial }: Tried, then: () => void) => {
    change(trial.settings);
    then();
  };
  return (
    <Dialog title={S.trials.title} wide onClose={onClose}>
      <div class="trials" aria-busy={list.length === 0 || done < list.length}>
        <div class="row between">
          <Choice<SetName>
            label={S.trials.of}
            hideLabel
            value={set.value}
            options={SETS.filter((name) => name !== 'pinned' || pinned.value.length > 0).map((value) => ({
              value,
              label: value === 'pinned' ? S.trials.pinned(pinned.value.length, MOST_PINNED) : S.trials.sets[value],
            }))}
            onChange={(next) => (set.value = next)}
          />
          <span class="muted num" role="status">
            {done < list.length ? S.trials.making(done + 1, list.length) : S.trials.hint}
          </span>
        </div>
        <div class="trials-stage">
          {scene ? (
            <Stage
              label={S.trials.stage}
              scene={scene}
              tick={0}
              labels={[S.compare.original, ...list.map(({ trial }) => trial.name)]}
              front={(i) => i > 0 && list[i - 1] && <Pick of={list[i - 1]!} onUse={() => pick(list[i - 1]!, onClose)} onRun={() => pick(list[i - 1]!, onRun)} />}
            />
          ) : (
            <p class="stage-note" role="status">
              {S.enlarge.previewWorking}
            </p>
          )}
        </div>
      </div>
    </Dialog>
  );
}

function Pick({ of: { trial, bitmap, seconds, problem }, onUse, onRun }: { of: Tried; onUse: () => void; onRun: () => void }) {
  if (problem) return <p class="pick-note">{problem}</p>;
  if (!bitmap) return <p class="pick-note">{S.enlarge.previewWorking}</p>;
  return (
    <div class="pick">
      <span class="tag-text num">{seconds !== null && S.enlarge.previewTook(seconds)}</span>
      <button type="button" aria-label={S.queue.of(S.trials.use, trial.name)} onClick={onUse}>
        <Check />
        {S.trials.use}
      </button>
      <button type="button" class="primary" aria-label={S.queue.of(S.enlarge.run, trial.name)} onClick={onRun}>
        {S.enlarge.run}
      </button>
    </div>
  );
}
