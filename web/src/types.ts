/** What goes over the wire, as the service's console routes speak it. */

import type { KNOBS } from './knobs.ts';

export type Engine = 'automatic' | 'magnific_illusio' | 'magnific_sharpy' | 'magnific_sparkle';

export type OptimizedFor =
  | 'standard'
  | 'soft_portraits'
  | 'hard_portraits'
  | 'art_n_illustration'
  | 'videogame_assets'
  | 'nature_n_landscapes'
  | 'films_n_photography'
  | '3d_renders'
  | 'science_fiction_n_horror';

export type Flavor = 'sublime' | 'photo' | 'photo_denoiser';

/** How much work goes into a result. */
export type Quality = 'draft' | 'fast' | 'best';

export type CreativeKnob = (typeof KNOBS.creative)[number]['name'];
export type PrecisionKnob = (typeof KNOBS.precision)[number]['name'];

/** Detail may be invented. */
export interface Creative extends Record<CreativeKnob, number> {
  mode: 'creative';
  engine: Engine;
  optimized_for: OptimizedFor;
  prompt: string | null;
}

/** Detail is sharpened, not invented. */
export interface Precision extends Record<PrecisionKnob, number> {
  mode: 'precision';
  flavor: Flavor | null;
}

export type Look = Creative | Precision;

/** A part of the upright source, in its pixels. */
export interface Crop {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface UpscaleRequest {
  size: { factor: number } | { width: number } | { height: number };
  look: Look;
  model: string | null;
  seed: number | null;
  crop: Crop | null;
  /** The service leaves it out of a task that is the best. */
  quality?: Quality;
}

export type OutputFormat = 'png' | 'jpeg' | 'webp' | 'tiff' | 'avif';

export interface Output {
  format: OutputFormat;
  /** 1..=100, for lossy formats. */
  quality?: number;
}

export type Status = 'CREATED' | 'IN_PROGRESS' | 'COMPLETED' | 'FAILED' | 'CANCELLED';

export interface PictureFile {
  width: number;
  height: number;
  bytes: number;
  media_type: string;
  url: string;
}

export interface Progress {
  stage: 'decode' | 'plan' | 'enlarge' | 'finish' | 'encode';
  done: number;
  total: number;
  fraction: number;
  eta_seconds: number | null;
}

/** The result, reduced to the source's size, against the source. */
export interface Invention {
  /** Mean absolute difference, as a share of white, 0..=1. */
  share: number;
  /** Where: grey, black where nothing departs, white from a quarter of white on. */
  map_url: string | null;
}

export interface Task {
  task_id: string;
  status: Status;
  name: string;
  kind: string;
  request: UpscaleRequest;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  expires_at: string | null;
  files: 'present' | 'gone';
  source: PictureFile | null;
  result: PictureFile | null;
  invention: Invention | null;
  thumb_url: string | null;
  progress: Progress | null;
  position: number | null;
  wait_seconds: number | null;
  estimate_seconds: number | null;
  plan: { steps: unknown[]; notes: string[] } | null;
  timings: Record<string, number> | null;
  error: { code: string; message: string; hint?: string | null } | null;
}

export interface Estimate {
  seconds: number;
  bytes: number;
  output_width: number;
  output_height: number;
}

/** A model, as `GET /api/models` lists it. */
export interface Model {
  name: string;
  title: string;
  /** What it is good at, in a sentence. */
  good_at: string;
  architecture: string;
  scale: number;
  parameters: number;
  licence: string;
  source?: string;
  sha256: string;
  bundled: boolean;
  bytes?: number;
}

export interface ApiKey {
  id: string;
  name: string;
  prefix: string;
  created_at: string;
  last_used_at: string | null;
  revoked_at: string | null;
  /** The whole key: only in the answer that made it. */
  key?: string;
}

export interface ServiceStatus {
  version: string;
  auth: { required: boolean };
  uptime_seconds?: number;
  limits?: {
    max_body_bytes: number;
    max_source_pixels: number;
    /** `null`: as many as memory allows. */
    max_result_megapixels?: number | null;
    queue: number;
  };
  machine?: { backend: string; threads: number; cores: number; memory_total: number; memory_available: number };
  storage?: { data_dir: string; used_bytes: number; free_bytes: number };
  /** How long files are kept; `null`: until they are deleted, or the budget is reached. */
  retention_seconds?: number | null;
  /** Bytes that results may take; `null`: no limit. */
  disk_budget_bytes?: number | null;
  history_seconds?: number;
  queue?: { waiting: number; running: number; completed: number; failed: number; cancelled: number; seconds_waiting: number };
  checks?: { name: string; ok: boolean; message: string }[];
  listen?: string;
  public_url?: string;
}
