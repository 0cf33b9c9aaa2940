/** The desk: pictures that are about to be enlarged, and how. */

import { computed, effect, signal, untracked, type Signal } from '@preact/signals';
import * as api from '../api.ts';
import { megapixels } from '../logic/format.ts';
import {
  CONTRACT_LIMITS,
  FACTORS,
  fits,
  largestFactor,
  previewSide,
  resultSize,
  type Extent,
  type Limits,
} from '../logic/sizes.ts';
import { pictureType, SNIFF_BYTES, tiffSize, type PictureType } from '../logic/sniff.ts';
import { S } from '../strings.ts';
import type { Creative, Crop, Look, Output, Precision, ServiceStatus, Task, UpscaleRequest } from '../types.ts';
import { complain, say, stored } from './store.ts';
import { put } from './tasks.ts';

/** A picture on the desk. */
export interface Picture {
  id: number;
  name: string;
  size: Extent;
  /** What shows it in this page; `null` if browsers cannot. */
  url: string | null;
  /** The file, unless the service has it already. */
  file: Blob | null;
  /** Where the service finds it, once asked for. */
  stored: Promise<string> | null;
  /** Under which key it was last submitted and how: the same again is the same task, should the answer have been lost. */
  submitted: { as: string; key: string } | null;
  /** Share that has been sent, while it is being sent. */
  sending: Signal<number | null>;
  /** Centre of the test strip, as shares of width and height. */
  focus: Signal<{ x: number; y: number }>;
}

export const pictures = signal<readonly Picture[]>([]);
const currentId = signal<number | null>(null);
export const current = computed(() => pictures.value.find((p) => p.id === currentId.value) ?? pictures.value[0] ?? null);
export const choose = (picture: Picture) => {
  currentId.value = picture.id;
};

/** How to enlarge: what the controls show. Both manners keep their knobs while the other is used. */
export interface Settings {
  mode: Look['mode'];
  factor: number;
  creative: Omit<Creative, 'mode'>;
  precision: Omit<Precision, 'mode'>;
  model: string | null;
  output: Output;
}

export const NEUTRAL: Settings = {
  mode: 'creative',
  factor: 4,
  creative: {
    creativity: 0,
    hdr: 0,
    resemblance: 0,
    fractality: 0,
    engine: 'automatic',
    optimized_for: 'standard',
    prompt: null,
  },
  precision: { sharpen: 7, smart_grain: 7, ultra_detail: 30, flavor: null },
  model: null,
  output: { format: 'png' },
};

const isSettings = (v: unknown): v is Settings =>
  typeof v === 'object' && v !== null && Object.keys(NEUTRAL).every((key) => key in v);

export const settings = stored<Settings>('settings', NEUTRAL, isSettings);
export const change = (part: Partial<Settings>) => {
  settings.value = { ...settings.value, ...part };
};

/** A preset is everything but the size. */
export type Preset = { name: string; settings: Omit<Settings, 'factor'> };
export const presets = stored<Preset[]>(
  'presets',
  [],
  (v): v is Preset[] => Array.isArray(v) && v.every((p) => typeof p?.name === 'string' && isSettings({ factor: 0, ...p.settings })),
);

export const limits = signal<Limits>(CONTRACT_LIMITS);
export function learnLimits(status: ServiceStatus): void {
  if (!status.limits) return;
  const l = status.limits;
  limits.value = {
    maxBodyBytes: l.max_body_bytes,
    maxSourcePixels: l.max_source_pixels,
    maxCreativePixels: l.max_creative_pixels,
    maxPrecisionSide: l.max_precision_side,
  };
}

export const look = computed<Look>(() => {
  const { mode, creative, precision } = settings.value;
  return mode === 'creative' ? { mode, ...creative } : { mode, ...precision };
});

export function requestFor(factor: number, crop: Crop | null = null): UpscaleRequest {
  return { size: { factor }, look: look.value, model: settings.value.model, seed: null, crop };
}

// ---------------------------------------------------------------- taking pictures in

let nextId = 1;

/** Puts files on the desk; says what cannot be used and why. */
export async function take(files: Iterable<File>): Promise<void> {
  for (const file of files) {
    try {
      const picture = await open(file);
      pictures.value = [...pictures.value, picture];
      currentId.value = picture.id;
    } catch (error) {
      complain(error);
    }
  }
}

async function open(file: File): Promise<Picture> {
  const name = file.name || 'picture.png';
  const type = pictureType(new Uint8Array(await file.slice(0, SNIFF_BYTES).arrayBuffer()));
  if (!type) throw new api.Problem(S.errors.wrongFile(name), S.errors.wrongFileHint);
  const { maxBodyBytes, maxSourcePixels } = limits.value;
  if (file.size > maxBodyBytes) {
    throw new api.Problem(S.errors.tooManyBytes(name, file.size, maxBodyBytes), S.errors.tooManyBytesHint);
  }
  const typed = file.type === type ? file : new File([file], name, { type });
  const { size, url } = await measure(typed, type);
  if (!size) throw new api.Problem(S.errors.damaged(name), S.errors.damagedHint);
  if (size.width * size.height > maxSourcePixels) {
    if (url) URL.revokeObjectURL(url);
    throw new api.Problem(
      S.errors.sourceTooLarge(name, megapixels(size.width, size.height), maxSourcePixels),
      S.errors.sourceTooLargeHint,
    );
  }
  return place({ name, size, url, file: typed, stored: null });
}

async function measure(file: File, type: PictureType): Promise<{ size: Extent | null; url: string | null }> {
  if (type === 'image/tiff') return { size: await tiffSize(file), url: null };
  const url = URL.createObjectURL(file);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return { size: { width: image.naturalWidth, height: image.naturalHeight }, url };
  } catch {
    URL.revokeObjectURL(url);
    return { size: null, url: null };
  }
}

function place(picture: Omit<Picture, 'id' | 'submitted' | 'sending' | 'focus'>): Picture {
  const id = nextId;
  nextId += 1;
  return { id, submitted: null, sending: signal(null), focus: signal({ x: 0.5, y: 0.42 }), ...picture };
}

/** Puts the source of an older task back on the desk, with its knobs. */
export function takeAgain(task: Task): void {
  const { source, request } = task;
  if (!source) return;
  const url = source.media_type === 'image/tiff' ? null : api.local(source.url);
  const picture = place({
    name: task.name,
    size: { width: source.width, height: source.height },
    url,
    file: null,
    stored: Promise.resolve(source.url),
  });
  pictures.value = [...pictures.value, picture];
  currentId.value = picture.id;
  const { mode, ...knobs } = request.look;
  const factor = 'factor' in request.size ? request.size.factor : settings.value.factor;
  const fromTask = mode === 'creative' ? { creative: { ...NEUTRAL.creative, ...knobs } } : { precision: { ...NEUTRAL.precision, ...knobs } };
  change({ mode, factor, model: request.model, ...fromTask });
}

export function putAway(picture: Picture): void {
  pictures.value = pictures.value.filter((p) => p !== picture);
  if (picture.file && picture.url) URL.revokeObjectURL(picture.url);
}

/** The picture's address at the service; sends it there first when it has not been. */
function addressOf(picture: Picture): Promise<string> {
  picture.stored ??= (async () => {
    picture.sending.value = 0;
    try {
      return await api.upload(picture.file!, picture.name, (share) => {
        picture.sending.value = share;
      });
    } catch (error) {
      picture.stored = null;
      throw error;
    } finally {
      picture.sending.value = null;
    }
  })();
  return picture.stored;
}

/** What the service has refused may have expired there: the next attempt sends the file anew. */
function sendAgain(picture: Picture, error: unknown): void {
  if (picture.file && (error as api.Problem).status >= 400) picture.stored = null;
}

/** 128 random bits; `crypto.randomUUID` is only there on localhost and https. */
const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');

// ---------------------------------------------------------------- what would come out

/** What keeps a picture from being enlarged as set, and what would work instead. */
export interface Misfit {
  text: string;
  factor: number | null;
  /** The factor that precision would allow, where creative allows less than was asked for. */
  precisionFactor: number | null;
}

export function misfit(picture: Picture, { mode, factor } = settings.value): Misfit | null {
  const { size, name } = picture;
  if (fits(size, mode, factor, limits.value)) return null;
  const wanted = resultSize(size, factor);
  const { maxCreativePixels, maxPrecisionSide } = limits.value;
  const text =
    mode === 'creative'
      ? S.errors.tooLargeCreative(name, factor, megapixels(wanted.width, wanted.height), maxCreativePixels)
      : S.errors.tooLargePrecision(name, factor, Math.max(wanted.width, wanted.height), maxPrecisionSide);
  const largest = largestFactor(size, mode, limits.value);
  const precision = mode === 'creative' ? FACTORS.precision.filter((f) => f <= factor && fits(size, 'precision', f, limits.value)).at(-1) : null;
  return { text, factor: largest, precisionFactor: precision && precision > (largest ?? 0) ? precision : null };
}

/** The estimate for the current picture as set; `null` while it is not known. */
export const estimated = signal<{ seconds: number; secondsPerSourcePixel: number } | null>(null);
/** Why there is none, if the service said so. */
export const estimateProblem = signal<api.Problem | null>(null);

effect(() => {
  const picture = current.value;
  const request = requestFor(settings.value.factor);
  if (!picture || misfit(picture)) {
    estimated.value = null;
    return;
  }
  const stop = new AbortController();
  const timer = setTimeout(async () => {
    try {
      const { width, height } = picture.size;
      const { seconds } = await api.estimate(width, height, request, stop.signal);
      estimated.value = { seconds, secondsPerSourcePixel: seconds / (width * height) };
      estimateProblem.value = null;
    } catch (error) {
      if (stop.signal.aborted) return;
      estimated.value = null;
      estimateProblem.value = error as api.Problem;
    }
  }, 150);
  return () => {
    clearTimeout(timer);
    stop.abort();
  };
});

// ---------------------------------------------------------------- the test strip

export interface Strip {
  picture: Picture;
  crop: Crop;
  result: Blob;
  seconds: number;
}

/** The last test strip that was made. */
export const strip = signal<Strip | null>(null);
export const stripState = signal<{ working: boolean; error: { message: string; hint: string | null } | null }>({ working: false, error: null });
/** Raised to try again by hand. */
export const stripAttempt = signal(0);

/** The region that the test strip shows. */
export const stripCrop = computed<Crop | null>(() => {
  const picture = current.value;
  if (!picture) return null;
  const side = previewSide(picture.size, pace.value);
  const start = (share: number, length: number) => Math.round(Math.min(Math.max(share * length - side / 2, 0), length - side));
  const { x, y } = picture.focus.value;
  return { x: start(x, picture.size.width), y: start(y, picture.size.height), width: side, height: side };
});

/** Seconds per source pixel, rounded so that the frame does not change its size with each new measurement. */
const pace = computed(() => {
  const s = estimated.value?.secondsPerSourcePixel;
  return s ? 2 ** Math.round(Math.log2(s)) : null;
});

effect(() => {
  const picture = current.value;
  const crop = stripCrop.value;
  stripAttempt.value;
  if (!picture || !crop || misfit(picture) || !pace.value) return;
  const request = requestFor(settings.value.factor, crop);
  const stop = new AbortController();
  const slow = pace.value * crop.width * crop.height > DRAFT_FROM;
  const timer = setTimeout(() => develop(picture, crop, request, slow, stop.signal), 200);
  return () => {
    clearTimeout(timer);
    stop.abort();
  };
});

/** Seconds that a test strip may take before a draft is shown first. */
const DRAFT_FROM = 0.7;

async function develop(picture: Picture, crop: Crop, request: UpscaleRequest, slow: boolean, stop: AbortSignal): Promise<void> {
  stripState.value = { working: true, error: null };
  try {
    const image = await addressOf(picture);
    if (stop.aborted) return;
    for (const draft of slow ? [true, false] : [false]) {
      const started = performance.now();
      const submission = { image, name: picture.name, request: { ...request, draft }, output: { format: 'png' as const } };
      const result = await api.preview(submission, stop);
      strip.value = { picture, crop, result, seconds: (performance.now() - started) / 1000 };
    }
    stripState.value = { working: false, error: null };
  } catch (error) {
    if (stop.aborted) return;
    sendAgain(picture, error);
    const { message, hint } = error as api.Problem;
    stripState.value = { working: false, error: { message, hint: hint ?? null } };
  }
}

// ---------------------------------------------------------------- running

/** Whether pictures that the factor is too large for get their largest factor instead. */
export const fitEach = signal(false);
export const running = signal(false);

/** The factor that a picture will get, or `null` if none fits. */
export function factorFor(picture: Picture): number | null {
  const { factor, mode } = settings.value;
  if (fits(picture.size, mode, factor, limits.value)) return factor;
  return fitEach.value ? largestFactor(picture.size, mode, limits.value) : null;
}

/** Submits everything on the desk. What was accepted leaves the desk; resolves to the tasks. */
export async function run(): Promise<Task[]> {
  if (running.value) return [];
  running.value = true;
  const accepted: Task[] = [];
  try {
    for (const picture of untracked(() => pictures.value)) {
      const factor = factorFor(picture);
      if (factor === null) continue;
      try {
        const image = await addressOf(picture);
        const submission = { image, name: picture.name, request: requestFor(factor), output: settings.value.output };
        const as = JSON.stringify(submission);
        if (picture.submitted?.as !== as) picture.submitted = { as, key: randomKey() };
        const task = await api.submit(submission, picture.submitted.key);
        put(task);
        accepted.push(task);
        putAway(picture);
      } catch (error) {
        sendAgain(picture, error);
        complain(error);
      }
    }
  } finally {
    running.value = false;
  }
  if (accepted.length) say(S.enlarge.queued(accepted.length));
  return accepted;
}
