/** How to enlarge: what the controls show, and the presets that set them. */

import { computed, signal } from '@preact/signals';
import * as api from '../api.ts';
import type { Extent } from '../logic/sizes.ts';
import { KNOBS } from '../knobs.ts';
import type { Creative, Crop, Generative, Look, Output, Precision, Quality, UpscaleRequest } from '../wire.ts';
import { stored } from './store.ts';

/** A size that is not a factor: the result's width in pixels, or all its pixels in millions. */
export interface Exact {
  by: 'width' | 'megapixels';
  value: number;
}

/** What the controls show. Both styles keep their knobs while the other is used. */
export interface Settings {
  mode: Look['mode'];
  factor: number;
  /** Instead of the factor. */
  exact: Exact | null;
  creative: Omit<Creative, 'mode'>;
  precision: Omit<Precision, 'mode'>;
  quality: Quality;
  model: string | null;
  generative: Generative;
  output: Output;
}

/** Each knob at its default. */
const neutral = <Name extends string>(knobs: readonly { name: Name; default: number }[]) =>
  Object.fromEntries(knobs.map((knob) => [knob.name, knob.default])) as Record<Name, number>;

export const NEUTRAL: Settings = {
  mode: 'creative',
  factor: 4,
  exact: null,
  creative: { ...neutral(KNOBS.creative), engine: 'automatic', optimized_for: 'standard', prompt: null },
  precision: { ...neutral(KNOBS.precision), flavor: null },
  quality: 'best',
  model: null,
  generative: { checkpoint: null, negative: null },
  output: { format: 'png' },
};

/** What earlier versions did not keep. */
const LATER = ['quality', 'generative', 'exact'] as const;
type Later = (typeof LATER)[number];
type Kept = Omit<Settings, Later> & Partial<Pick<Settings, Later>>;
const isSettings = (v: unknown): v is Kept =>
  typeof v === 'object' && v !== null && Object.keys(NEUTRAL).every((key) => key in v || (LATER as readonly string[]).includes(key));

const kept = stored<Kept>('settings', NEUTRAL, isSettings);
export const settings = computed<Settings>(() => complete(kept.value));
const complete = (part: Partial<Settings>): Settings => ({
  ...NEUTRAL,
  ...part,
  creative: { ...NEUTRAL.creative, ...part.creative },
  precision: { ...NEUTRAL.precision, ...part.precision },
});

export const change = (part: Partial<Settings>) => {
  kept.value = { ...settings.value, ...part };
};
/** Everything but the size, and the style's choice, as at first. */
export const reset = () => change({ ...NEUTRAL, ...sizeOf(settings.value), mode: settings.value.mode });

// ---------------------------------------------------------------- presets

/** A preset is everything but the size. */
export type Preset = { name: string; settings: Partial<Omit<Settings, 'factor' | 'exact'>> };
const sizeOf = ({ factor, exact }: Settings) => ({ factor, exact });

/** One's own, which the service keeps. */
export const presets = signal<readonly Preset[]>([]);

const isPreset = (v: unknown): v is Preset => {
  const { name, settings } = v as Partial<Preset>;
  return typeof name === 'string' && isSettings({ factor: 0, ...settings });
};

/** Learns them. Those that another program has saved, or another version, may be unusable here. */
export async function loadPresets(): Promise<void> {
  presets.value = (await api.presets()).filter(isPreset);
}

async function keep(next: readonly Preset[]): Promise<void> {
  await api.replacePresets(next);
  presets.value = next;
}

/** Saves what is set under a name. */
export function savePreset(name: string): Promise<void> {
  const { factor: _, exact: __, ...rest } = settings.value;
  return keep([...presets.value.filter((p) => p.name !== name), { name, settings: rest }]);
}

export const deletePreset = (preset: Preset): Promise<void> => keep(presets.value.filter((other) => other !== preset));

/** What comes with the page, by the key of its words in `S.startingPresets`. docs/concepts/style.md says what each setting does. */
export const STARTING = {
  portrait: { mode: 'creative', creative: { ...NEUTRAL.creative, optimized_for: 'soft_portraits' } },
  oldPhoto: { mode: 'precision', precision: { sharpen: 5, smart_grain: 0, ultra_detail: 15, flavor: 'photo_denoiser' } },
  gameTexture: { mode: 'creative', creative: { ...NEUTRAL.creative, optimized_for: 'videogame_assets' } },
  logo: { mode: 'precision', precision: { sharpen: 15, smart_grain: 0, ultra_detail: 0, flavor: 'sublime' } },
  print: { mode: 'creative', creative: { ...NEUTRAL.creative, creativity: 4 }, output: { format: 'tiff', dpi: 300 } },
  web: { mode: 'precision', precision: { ...NEUTRAL.precision, sharpen: 15, flavor: 'photo' }, output: { format: 'webp', quality: 82 } },
} as const satisfies Record<string, Preset['settings']>;

/** All settings as a preset makes them: what it does not say is neutral, and the size stays. */
export const withPreset = (preset: Preset['settings']): Settings => ({ ...complete(preset), ...sizeOf(settings.value) });

/** Whether the controls are as a preset makes them. */
export const isApplied = (preset: Preset['settings']) => JSON.stringify(sorted(withPreset(preset))) === JSON.stringify(sorted(settings.value));

const sorted = (value: unknown): unknown =>
  typeof value === 'object' && value !== null
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, sorted(inner)]))
    : value;

// ---------------------------------------------------------------- requests

export function lookOf({ mode, creative, precision }: Settings): Look {
  return mode === 'creative' ? { mode, ...creative } : { mode, ...precision };
}

/** The factor that leads to the size that was set. */
export function wantedFactor({ width, height }: Extent, { factor, exact }: Settings = settings.value): number {
  if (!exact) return factor;
  return exact.by === 'width' ? exact.value / width : Math.sqrt((exact.value * 1e6) / (width * height));
}

/** The size of a result as a request says it: a width that was set is met to the pixel. */
export function sizeFor(source: Extent, factor: number): UpscaleRequest['size'] {
  const { exact } = settings.value;
  return exact?.by === 'width' && factor === wantedFactor(source) ? { width: exact.value } : { factor };
}

export function requestFor(size: UpscaleRequest['size'], crop: Crop | null = null, s: Settings = settings.value): UpscaleRequest {
  const { mode, model, quality, generative } = s;
  const drawn = mode === 'creative' && (generative.checkpoint !== null || generative.negative !== null);
  return { size, look: lookOf(s), model, seed: null, crop, quality, ...(drawn ? { generative } : {}) };
}
