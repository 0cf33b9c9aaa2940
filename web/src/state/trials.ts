/** One region of a picture, enlarged with several settings: what a contact sheet shows. */

import { signal } from '@preact/signals';
import * as api from '../api.ts';
import { styleOf } from '../logic/describe.ts';
import { S } from '../strings.ts';
import type { Crop, Model } from '../wire.ts';
import { tryOut, type Picture } from './desk.ts';
import { presets, requestFor, settings, STARTING, withPreset, type Settings } from './settings.ts';

/** Settings to try, and what sets them apart from the others. */
export interface Trial {
  name: string;
  settings: Settings;
}

/** What came of a trial: pixels, or why there are none. */
export interface Tried {
  trial: Trial;
  bitmap: ImageBitmap | null;
  seconds: number | null;
  problem: string | null;
}

export const SETS = ['models', 'settings', 'presets', 'pinned'] as const;
export type SetName = (typeof SETS)[number];

/** Settings put aside to be tried together, as many as are easily told apart. */
export const pinned = signal<readonly Settings[]>([]);
export const MOST_PINNED = 4;
const isPinned = (s: Settings) => pinned.value.some((other) => JSON.stringify(other) === JSON.stringify(s));
export function pin(): void {
  if (!isPinned(settings.value)) pinned.value = [...pinned.value.slice(1 - MOST_PINNED), settings.value];
}

export function trialsOf(set: SetName, models: readonly Model[]): Trial[] {
  const now = settings.value;
  switch (set) {
    case 'models': {
      // A draft is made by the same model whatever is chosen.
      const quality = now.quality === 'draft' ? 'fast' : now.quality;
      return [{ name: S.enlarge.modelAutomatic, model: null }, ...models.map(({ name, title }) => ({ name: title, model: name }))].map(({ name, model }) => ({
        name,
        settings: { ...now, quality, model },
      }));
    }
    case 'settings':
      return [{ name: S.trials.asSet, settings: now }, ...variations(now)];
    case 'presets':
      return [
        ...Object.entries(STARTING).map(([key, preset]) => ({ name: S.startingPresets[key as keyof typeof STARTING][0], settings: withPreset(preset) })),
        ...presets.value.map((preset) => ({ name: preset.name, settings: withPreset(preset.settings) })),
      ];
    case 'pinned':
      return pinned.value.map((s) => ({ name: styleOf(requestFor({ factor: 1 }, null, s)), settings: { ...s, factor: now.factor, exact: now.exact } }));
  }
}

/** Three ways from what is set, each clearly another. */
function variations(now: Settings): Trial[] {
  const { creative, precision } = now;
  const within = (low: number, value: number, high: number) => Math.min(high, Math.max(low, value));
  if (now.mode === 'creative') {
    const knob = (name: 'creativity' | 'hdr' | 'resemblance' | 'fractality', by: number) => ({ [name]: within(-10, creative[name] + by, 10) });
    return [
      { name: S.trials.moreDetail, settings: { ...now, creative: { ...creative, ...knob('creativity', 5), ...knob('fractality', 2) } } },
      { name: S.trials.crisper, settings: { ...now, creative: { ...creative, ...knob('hdr', 4) } } },
      { name: S.trials.closer, settings: { ...now, creative: { ...creative, ...knob('creativity', -5), ...knob('resemblance', 5) } } },
    ];
  }
  const knob = (name: 'sharpen' | 'smart_grain' | 'ultra_detail', by: number) => ({ [name]: within(0, precision[name] + by, 100) });
  return [
    { name: S.trials.softer, settings: { ...now, precision: { ...precision, ...knob('sharpen', -30), ...knob('ultra_detail', -30) } } },
    { name: S.trials.crisper, settings: { ...now, precision: { ...precision, ...knob('sharpen', 30), ...knob('ultra_detail', 30) } } },
    { name: S.trials.grainier, settings: { ...now, precision: { ...precision, ...knob('smart_grain', 40) } } },
  ];
}

/** Makes one after the other, each with all cores; hands out all of them whenever one more is done. */
export async function tryAll(picture: Picture, crop: Crop, trials: readonly Trial[], onTried: (tried: readonly Tried[]) => void, stop: AbortSignal): Promise<void> {
  const tried: Tried[] = trials.map((trial) => ({ trial, bitmap: null, seconds: null, problem: null }));
  onTried([...tried]);
  for (const [i, trial] of trials.entries()) {
    try {
      const { result, seconds } = await tryOut(picture, crop, trial.settings, stop);
      tried[i] = { trial, bitmap: await createImageBitmap(result), seconds, problem: null };
    } catch (error) {
      if (stop.aborted) return;
      tried[i] = { trial, bitmap: null, seconds: null, problem: (error as api.Problem).message };
    }
    if (stop.aborted) return;
    onTried([...tried]);
  }
}
