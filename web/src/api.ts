/** The service, as functions. Addresses are relative to the page, whatever name the service gives itself. */

import { signal } from '@preact/signals';
import { duration } from './logic/format.ts';
import { Problem, sentence } from './logic/problem.ts';
import type { Extent } from './logic/sizes.ts';
import { EventParser, type ServerEvent } from './logic/sse.ts';
import { S } from './strings.ts';
import { viewOf } from './viewer/shown.ts';
import type {
  ApiKey,
  CheckpointList,
  Estimate,
  Model,
  ServiceStatus,
  Submission,
  Task,
  UpscaleRequest,
} from './wire.ts';

export { Problem };

/** Whether the service wants a key that it has not got (`missing`) or does not know (`wrong`). */
export const keyWanted = signal<'missing' | 'wrong' | null>(null);

const KEY = 'enlarger.key';
export const apiKey = signal<string>(localStorage.getItem(KEY) ?? '');

export function setApiKey(key: string): void {
  apiKey.value = key;
  keyWanted.value = null;
  if (key) localStorage.setItem(KEY, key);
  else localStorage.removeItem(KEY);
}

const headers = (): Record<string, string> => (apiKey.value ? { 'X-API-KEY': apiKey.value } : {});

/** An address of the service as seen from this page: it may name itself by another host. */
export function local(url: string): string {
  const { pathname, search } = new URL(url, location.href);
  return pathname + search;
}

interface CallOptions {
  signal?: AbortSignal;
  /** Requests with the same key and body are one, however often they are sent. */
  idempotencyKey?: string;
}

async function call(method: string, path: string, body?: unknown, { signal, idempotencyKey }: CallOptions = {}): Promise<Response> {
  const json = body !== undefined && !(body instanceof Blob);
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: {
        ...headers(),
        Accept: 'application/json',
        ...(json ? { 'Content-Type': 'application/json' } : {}),
        ...(idempotencyKey ? { 'Idempotency-Key': idempotencyKey } : {}),
      },
      ...(body === undefined ? {} : { body: json ? JSON.stringify(body) : (body as Blob) }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(S.errors.unreachable, S.errors.unreachableHint);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response: Response): Promise<Problem> {
  if (response.status === 401) keyWanted.value = apiKey.value ? 'wrong' : 'missing';
  const body = await response.json().catch(() => null);
  const message = sentence(body?.message ?? S.errors.status(response.status));
  const retry = Number(response.headers.get('Retry-After'));
  const said = body?.hint ? sentence(body.hint) : null;
  const hint = said ?? (response.status === 429 && retry ? S.errors.retryAfter(duration(retry)) : null);
  return new Problem(message, hint, response.status, body?.invalid_params, body?.error);
}

async function json<T>(method: string, path: string, body?: unknown, options?: CallOptions): Promise<T> {
  return (await call(method, path, body, options)).json();
}

/** Stores a picture for a task to read; resolves to its address. `onProgress` hears shares, 0..1. */
export async function upload(file: Blob, name: string, onProgress: (share: number) => void): Promise<string> {
  const slot = await json<{ upload_url: string; download_url: string }>('POST', '/customers/storage', {
    file_name: name,
    ...(file.type ? { content_type: file.type } : {}),
  });
  await new Promise<void>((resolve, reject) => {
    // fetch cannot report the progress of an upload.
    const request = new XMLHttpRequest();
    request.open('PUT', local(slot.upload_url));
    request.upload.onprogress = (e) => e.lengthComputable && onProgress(e.loaded / e.total);
    request.onerror = () => reject(new Problem(S.errors.uploadBroken(name), S.errors.unreachableHint));
    request.onload = () => {
      if (request.status < 300) return resolve();
      const said = (() => {
        try {
          return JSON.parse(request.responseText);
        } catch {
          return null;
        }
      })();
      reject(new Problem(sentence(said?.message ?? S.errors.status(request.status)), said?.hint ?? null, request.status));
    };
    request.send(file);
  });
  return slot.download_url;
}

/** A file of the service. Its address is the right to read it. */
export const file = async (path: string) => (await call('GET', path)).blob();

/** An image file of the service as a PNG, and the size of the image itself. */
export async function view(address: string): Promise<{ blob: Blob; size: Extent }> {
  const response = await call('GET', viewOf(local(address)));
  const side = (name: string) => Number(response.headers.get(name));
  return { size: { width: side('X-Image-Width'), height: side('X-Image-Height') }, blob: await response.blob() };
}

export const submit = (submission: Submission, idempotencyKey: string) =>
  json<Task>('POST', '/api/tasks', submission, { idempotencyKey });

/** A small region, enlarged at once. */
export async function preview(submission: Submission, signal: AbortSignal): Promise<Blob> {
  return (await call('POST', '/api/preview', submission, { signal })).blob();
}

export const estimate = (width: number, height: number, request: UpscaleRequest, signal: AbortSignal) =>
  json<Estimate>('POST', '/api/estimate', { width, height, request }, { signal });

export const task = (id: string) => json<Task>('GET', `/api/tasks/${id}`);
export const tasks = (page: number, perPage: number, status?: Task['status']) =>
  json<{ tasks: Task[]; total: number }>('GET', `/api/tasks?page=${page}&per_page=${perPage}${status ? `&status=${status}` : ''}`);
export const cancel = (id: string) => json<Task>('POST', `/api/tasks/${id}/cancel`);
export const retry = (id: string) => json<Task>('POST', `/api/tasks/${id}/retry`);
export const favor = (id: string, favorite: boolean) => json<Task>(favorite ? 'PUT' : 'DELETE', `/api/tasks/${id}/favorite`);
export const remove = async (id: string) => void (await call('DELETE', `/api/tasks/${id}`));

export const presets = async () => (await json<{ presets: unknown[] }>('GET', '/api/presets')).presets;
export const replacePresets = async (presets: readonly unknown[]) => void (await call('PUT', '/api/presets', { presets }));
export const models = async () => (await json<{ models: Model[] }>('GET', '/api/models')).models;
export const checkpoints = () => json<CheckpointList>('GET', '/api/checkpoints');
/** Adds the model that these files make up: one file, or the two of ncnn. `onProgress` hears the share that was sent. */
export async function addModel(files: readonly File[], onProgress: (share: number) => void): Promise<Model> {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const uploaded: { name: string; url: string }[] = [];
  let sent = 0;
  for (const file of files) {
    const url = await upload(file, file.name, (share) => onProgress((sent + share * file.size) / total));
    sent += file.size;
    uploaded.push({ name: file.name, url });
  }
  return json('POST', '/api/models', { files: uploaded });
}
export const removeModel = async (name: string) => void (await call('DELETE', `/api/models/${encodeURIComponent(name)}`));

export const keys = async () => (await json<{ keys: ApiKey[] }>('GET', '/api/keys')).keys;
export const createKey = (name: string) => json<ApiKey>('POST', '/api/keys', { name });
export const revokeKey = async (id: string) => void (await call('DELETE', `/api/keys/${id}`));

export const status = () => json<ServiceStatus>('GET', '/api/status');

/** The service says something at least every 15 s; after this many milliseconds of silence the connection is dead. */
const SILENCE = 40_000;

/** Follows the events of all tasks until the connection breaks or `stop` fires. */
export async function follow(onOpen: () => void, onEvent: (event: ServerEvent) => void, stop: AbortSignal): Promise<void> {
  const silent = new AbortController();
  const signal = AbortSignal.any([stop, silent.signal]);
  const response = await fetch('/api/events', { headers: { ...headers(), Accept: 'text/event-stream' }, signal });
  if (!response.ok) throw await problemOf(response);
  onOpen();
  const parser = new EventParser();
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const timer = setTimeout(() => silent.abort(), SILENCE);
    const { done, value } = await reader.read();
    clearTimeout(timer);
    if (done) return;
    parser.push(value).forEach(onEvent);
  }
}
