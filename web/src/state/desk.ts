/** The desk: pictures that are about to be enlarged. */

import { computed, effect, signal, untracked, type Signal } from '@preact/signals';
import * as api from '../api.ts';
import { busiest } from '../logic/detail.ts';
import { bytes, megapixels } from '../logic/format.ts';
import { factorOf, FACTORS, fits, LARGEST_FACTOR, previewSide, resultSize, scarce, type Extent } from '../logic/sizes.ts';
import { pictureType, SNIFF_BYTES } from '../logic/sniff.ts';
import { S } from '../strings.ts';
import type { Crop, Quality, Task, UpscaleRequest } from '../wire.ts';
import { shown, viewOf } from '../viewer/shown.ts';
import type { Found } from './folders.ts';
import { forget, keep, keepTask, keyOfTask, recall } from './keep.ts';
import { go } from './route.ts';
import { learn, limits, service } from './service.ts';
import { change, NEUTRAL, requestFor, settings, sizeFor, wantedFactor, type Settings } from './settings.ts';
import { complainOf, say } from './store.ts';
import { fetchTask, put } from './tasks.ts';

/** A picture on the desk. */
export interface Picture {
  id: number;
  /** With the folders that it was dropped in: "holiday/day 1/a.jpg". */
  name: string;
  size: Extent;
  /** What shows it in this page. It may be smaller than `size`. */
  url: string;
  /** The file, unless the service has it already. */
  file: File | null;
  /** By which the browser keeps the file over a reload. */
  key: string;
  /** Where the service finds it, once asked for. */
  stored: Promise<string> | null;
  /** Under which key it was last submitted and how: the same again is the same task, should the answer have been lost. */
  submitted: { as: string; key: string } | null;
  /** Why the service cannot use it, once it said so. */
  fault: Signal<api.Problem | null>;
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

// ---------------------------------------------------------------- taking pictures in

let nextId = 1;

/** How many of the files that are being taken in have been, while that goes on. */
export const taking = signal<{ done: number; all: number } | null>(null);

/** Puts files on the desk and shows the first; says what cannot be used and why. */
export async function take(found: readonly Found[]): Promise<void> {
  const problems: unknown[] = [];
  let first = true;
  for (const [i, { file, name }] of found.entries()) {
    if (found.length > 1) taking.value = { done: i, all: found.length };
    try {
      const picture = await open(file, name);
      keep(picture.key, { file, name });
      putOn(picture, first);
      first = false;
    } catch (error) {
      problems.push(error);
    }
  }
  taking.value = null;
  complainOf(problems, S.enlarge.skipped);
}

/** Takes what was in folders, and says how much else was. */
export async function takeFolder({ found, others }: { found: readonly Found[]; others: number }): Promise<void> {
  await take(found);
  if (others) say(S.enlarge.leftOut(others));
}

function putOn(picture: Picture, shown: boolean): void {
  pictures.value = [...pictures.value, picture];
  if (shown) currentId.value = picture.id;
}

/** Brings back what was on this tab's desk before it was reloaded. */
export async function restore(): Promise<void> {
  const { found, tasks } = await recall();
  await take(found);
  // One that was deleted meanwhile is not missed.
  for (const id of tasks) await fetchTask(id).then(putBack, () => {});
}

async function open(file: File, name: string): Promise<Picture> {
  if (file.size === 0) throw new api.Problem(S.errors.emptyFile(name), S.errors.emptyFileHint);
  // What is not known by its first bytes, the service may know.
  const type = pictureType(new Uint8Array(await file.slice(0, SNIFF_BYTES).arrayBuffer()));
  const { maxBodyBytes, maxSourcePixels } = limits.value;
  if (file.size > maxBodyBytes) {
    throw new api.Problem(S.errors.tooManyBytes(name, bytes(file.size), bytes(maxBodyBytes)), S.errors.tooManyBytesHint);
  }
  const typed = !type || file.type === type ? file : new File([file], file.name, { type });
  const picture = place({ name, size: { width: 0, height: 0 }, url: '', file: typed, stored: null });
  const { size, url, focus } = (type && shown(type) && (await decoded(URL.createObjectURL(typed)))) || (await viewed(picture));
  if (size.width * size.height > maxSourcePixels) {
    URL.revokeObjectURL(url);
    throw new api.Problem(
      S.errors.sourceTooLarge(name, megapixels(size.width, size.height), megapixels(maxSourcePixels, 1)),
      S.errors.sourceTooLargeHint,
    );
  }
  picture.focus.value = focus;
  return { ...picture, size, url };
}

/** An image as the page shows it. */
interface Shown {
  size: Extent;
  url: string;
  /** Where the test strip starts. */
  focus: { x: number; y: number };
}

/** An image that the browser decodes itself, to its end; `null` if it cannot. */
async function decoded(url: string): Promise<Shown | null> {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    // A truncated file counts as decoded, and yet has no bitmaps.
    (await createImageBitmap(image, 0, 0, 1, 1)).close();
    return { size: { width: image.naturalWidth, height: image.naturalHeight }, url, focus: detailOf(image) };
  } catch {
    URL.revokeObjectURL(url);
    return null;
  }
}

/** Side of the small image in which detail is looked for: grain is averaged away. */
const GLANCE = 128;

function detailOf(image: HTMLImageElement): { x: number; y: number } {
  const { naturalWidth, naturalHeight } = image;
  const share = Math.min(1, GLANCE / Math.max(naturalWidth, naturalHeight));
  const [width, height] = [naturalWidth, naturalHeight].map((side) => Math.max(1, Math.round(side * share))) as [number, number];
  const c = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })!;
  c.imageSmoothingQuality = 'medium';
  c.drawImage(image, 0, 0, width, height);
  return busiest(c.getImageData(0, 0, width, height));
}

/** What the server shows of an image that the browser cannot decode. It says so if there is nothing to show. */
export async function viewed(picture: Picture): Promise<Shown> {
  const address = await addressOf(picture);
  try {
    const { size, blob } = await api.view(address);
    const seen = await decoded(URL.createObjectURL(blob));
    if (!seen) throw new api.Problem(S.errors.cannotShow(picture.name), S.errors.cannotShowHint);
    return { ...seen, size };
  } catch (error) {
    const problem = error as api.Problem;
    // The file's name says which image is meant.
    const reason = problem.reasonOf('image');
    throw reason === null ? problem : new api.Problem(S.errors.unreadable(picture.name, reason), problem.hint);
  }
}

function place(picture: Omit<Picture, 'id' | 'key' | 'submitted' | 'fault' | 'sending' | 'focus'>): Picture {
  const id = nextId;
  nextId += 1;
  return { id, key: randomKey(), submitted: null, fault: signal(null), sending: signal(null), focus: signal({ x: 0.5, y: 0.42 }), ...picture };
}

/** Stands for an image that nothing can show: the board is seen, and no broken image. */
const BLANK = 'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg"/>';

/** Puts the source of an older task back on the desk, with its knobs. */
export async function takeAgain(task: Task): Promise<void> {
  await putBack(task);
  if (task.source) change(settingsOf(task.request, task.source));
}

/** Puts the source of an older task back on the desk. */
async function putBack(task: Task): Promise<void> {
  const { source } = task;
  if (!source) return;
  const url = api.local(source.url);
  const own = (shown(source.media_type) && (await decoded(url))) || (await decoded(viewOf(url)));
  const picture = place({
    name: task.name,
    size: { width: source.width, height: source.height },
    url: own ? own.url : BLANK,
    file: null,
    stored: Promise.resolve(source.url),
  });
  picture.key = keyOfTask(task.task_id);
  keepTask(task.task_id);
  if (own) picture.focus.value = own.focus;
  putOn(picture, true);
}

/** What a request was made with. */
function settingsOf(request: UpscaleRequest, source: Extent): Partial<Settings> {
  const { mode, ...knobs } = request.look;
  const wanted = factorOf(request, source);
  const size = FACTORS[mode].includes(wanted)
    ? { factor: wanted, exact: null }
    : { factor: settings.value.factor, exact: { by: 'width' as const, value: Math.round(source.width * wanted) } };
  const look = mode === 'creative' ? { creative: { ...NEUTRAL.creative, ...knobs } } : { precision: { ...NEUTRAL.precision, ...knobs } };
  return { mode, ...size, ...look, model: request.model, quality: request.quality ?? NEUTRAL.quality, generative: { ...NEUTRAL.generative, ...request.generative } };
}

export function putAway(...away: readonly Picture[]): void {
  pictures.value = pictures.value.filter((p) => !away.includes(p));
  for (const picture of away) if (picture.file) URL.revokeObjectURL(picture.url);
  forget(away.map((picture) => picture.key));
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

/** What was refused is marked if it cannot be used at all; if not, it may have expired at the service, and the next attempt sends it anew. */
async function refused(picture: Picture, error: unknown): Promise<void> {
  if (!(error instanceof api.Problem)) return;
  if (error.ofImage && (await unreadable(picture))) picture.fault.value = error;
  else if (picture.file && error.status >= 400) picture.stored = null;
}

/** Whether the service has the file and cannot read it. Of a file that is gone it shows nothing either, and does not blame the image. */
async function unreadable(picture: Picture): Promise<boolean> {
  try {
    await api.view(await addressOf(picture));
    return false;
  } catch (error) {
    return error instanceof api.Problem && error.ofImage;
  }
}

/** 128 random bits; `crypto.randomUUID` is only there on localhost and https. */
const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');

// ---------------------------------------------------------------- what would come out

/**
 * What this machine cannot do with the current picture: factors from `from` on, for the reason that the server gave. Memory
 * depends on the model, so only the server can tell.
 */
const tooMuch = signal<{ picture: Picture; from: number; why: string } | null>(null);

effect(() => {
  const picture = current.value;
  tooMuch.value = null;
  if (!picture) return;
  const { mode } = settings.value;
  const requests = FACTORS[mode].filter((factor) => fits(picture.size, factor, limits.value)).map((factor) => ({ factor, request: requestFor({ factor }) }));
  const stop = new AbortController();
  const timer = setTimeout(async () => {
    const { width, height } = picture.size;
    // The largest first: mostly it is possible, and then all are.
    for (const { factor, request } of requests.toReversed()) {
      try {
        await api.estimate(width, height, request, stop.signal);
        return;
      } catch (error) {
        if (stop.signal.aborted || (error as api.Problem).status !== 400) return;
        const problem = error as api.Problem;
        tooMuch.value = { picture, from: factor, why: problem.reasonOf('request.size') ?? problem.message };
      }
    }
  }, 150);
  return () => {
    clearTimeout(timer);
    stop.abort();
  };
});

/** Whether a picture can be enlarged so much, as far as is known. */
export function possible(picture: Picture, factor: number): boolean {
  const refused = tooMuch.value;
  if (factor < 1 || factor > LARGEST_FACTOR) return false;
  return fits(picture.size, factor, limits.value) && !(refused?.picture === picture && factor >= refused.from);
}

const largestPossible = (picture: Picture) => FACTORS[settings.value.mode].filter((factor) => possible(picture, factor)).at(-1) ?? null;

/** What keeps a picture from being enlarged as set, and the largest factor that works instead. */
export interface Misfit {
  text: string;
  factor: number | null;
}

export function misfit(picture: Picture): Misfit | null {
  const { size, name } = picture;
  const factor = wantedFactor(size);
  if (possible(picture, factor)) return null;
  if (factor < 1 || factor > LARGEST_FACTOR) return { text: S.errors.outOfRange(name, factor), factor: largestPossible(picture) };
  const wanted = resultSize(size, factor);
  const text = fits(size, factor, limits.value)
    ? S.errors.refusedAt(factor, name, tooMuch.value!.why)
    : S.errors.resultTooLarge(name, factor, megapixels(wanted.width, wanted.height), megapixels(limits.value.maxResultPixels, 1));
  return { text, factor: largestPossible(picture) };
}

/** The estimate for the current picture as set; `null` while it is not known. */
export const estimated = signal<{ seconds: number | null; secondsPerSourcePixel: number | null; bytes: number } | null>(null);
/** Why there is none, if the service said so. */
export const estimateProblem = signal<api.Problem | null>(null);

effect(() => {
  const picture = current.value;
  if (!picture || misfit(picture)) {
    estimated.value = null;
    estimateProblem.value = null;
    return;
  }
  const request = requestFor(sizeFor(picture.size, wantedFactor(picture.size)));
  const stop = new AbortController();
  const timer = setTimeout(async () => {
    try {
      const { width, height } = picture.size;
      const { seconds, bytes } = await api.estimate(width, height, request, stop.signal);
      // How much is free was last asked a while ago; it matters where it looks scarce.
      if (scarce(bytes, service.value)) await learn();
      if (stop.signal.aborted) return;
      estimated.value = { seconds, secondsPerSourcePixel: seconds === null ? null : seconds / (width * height), bytes };
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
  const side = previewSide(picture.size, wantedFactor(picture.size), pace.value);
  const start = (share: number, length: number) => Math.round(Math.min(Math.max(share * length - side / 2, 0), length - side));
  const { x, y } = picture.focus.value;
  return { x: start(x, picture.size.width), y: start(y, picture.size.height), width: side, height: side };
});

/** Seconds per source pixel, rounded so that the frame does not change its size with each new measurement. */
const pace = computed(() => {
  const s = estimated.value?.secondsPerSourcePixel;
  return s ? 2 ** Math.round(Math.log2(s)) : null;
});

/** Whether the service can do it, however long it takes. */
const feasible = computed(() => estimated.value !== null);

effect(() => {
  const picture = current.value;
  const crop = stripCrop.value;
  stripAttempt.value;
  if (!picture || !crop || picture.fault.value || misfit(picture) || !feasible.value) return;
  const request = requestFor({ factor: wantedFactor(picture.size) }, crop);
  const stop = new AbortController();
  // What has not been measured yet may take long: a ComfyUI that has drawn nothing so far.
  const slow = pace.value === null || pace.value * crop.width * crop.height > DRAFT_FROM;
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
    const qualities = new Set<Quality>([...(slow ? ['draft' as const] : []), request.quality ?? NEUTRAL.quality]);
    for (const quality of qualities) {
      strip.value = { picture, crop, ...(await previewed(image, picture, { ...request, quality }, stop)) };
    }
    stripState.value = { working: false, error: null };
  } catch (error) {
    if (stop.aborted) return;
    await refused(picture, error);
    if (stop.aborted) return;
    const { message, hint } = error as api.Problem;
    stripState.value = { working: false, error: { message, hint: hint ?? null } };
  }
}

async function previewed(image: string, { name }: Picture, request: UpscaleRequest, stop: AbortSignal): Promise<Pick<Strip, 'result' | 'seconds'>> {
  const started = performance.now();
  const result = await api.preview({ image, name, request, output: { format: 'png' } }, stop);
  return { result, seconds: (performance.now() - started) / 1000 };
}

/** A region of a picture as other settings would enlarge it. */
export async function tryOut(picture: Picture, crop: Crop, s: Settings, stop: AbortSignal): Promise<Pick<Strip, 'result' | 'seconds'>> {
  return previewed(await addressOf(picture), picture, requestFor({ factor: wantedFactor(picture.size) }, crop, s), stop);
}

// ---------------------------------------------------------------- running

/** Whether pictures that the factor is too large for get their largest factor instead. */
export const fitEach = signal(false);
export const running = signal(false);

/** The factor that a picture will get, or `null` if none fits or the picture cannot be used. */
export function factorFor(picture: Picture): number | null {
  const factor = wantedFactor(picture.size);
  if (picture.fault.value) return null;
  if (possible(picture, factor)) return factor;
  return fitEach.value ? largestPossible(picture) : null;
}

/** Submits everything on the desk. What was accepted leaves the desk; resolves to the tasks. */
async function run(): Promise<Task[]> {
  if (running.value) return [];
  running.value = true;
  const accepted: Task[] = [];
  const problems: unknown[] = [];
  try {
    for (const picture of untracked(() => pictures.value)) {
      const factor = factorFor(picture);
      if (factor === null) continue;
      try {
        const image = await addressOf(picture);
        const submission = { image, name: picture.name, request: requestFor(sizeFor(picture.size, factor)), output: settings.value.output };
        const as = JSON.stringify(submission);
        if (picture.submitted?.as !== as) picture.submitted = { as, key: randomKey() };
        const task = await api.submit(submission, picture.submitted.key);
        put(task);
        accepted.push(task);
        putAway(picture);
      } catch (error) {
        await refused(picture, error);
        problems.push(error);
      }
    }
  } finally {
    running.value = false;
  }
  complainOf(problems, S.enlarge.refused);
  if (accepted.length) say(S.enlarge.queued(accepted.length));
  return accepted;
}

/** Submits everything, and shows the queue if nothing is left over. */
export async function runAll(): Promise<void> {
  const tasks = await run();
  if (tasks.length && pictures.value.length === 0) go('queue');
}
