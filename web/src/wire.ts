/** What goes over the wire, by the page's names. The types themselves are generated from the specification. */

import type * as api from './types.ts';

export type Creative = Required<api.CreativeLook>;
export type Precision = Required<api.PrecisionLook>;
export type Look = Creative | Precision;
export type Engine = Creative['engine'];
export type OptimizedFor = Creative['optimized_for'];
export type Flavor = NonNullable<Precision['flavor']>;

export type Crop = api.Crop;
export type Quality = NonNullable<api.UpscaleRequest['quality']>;

/** What draws, of what the page lets people choose. */
export type Generative = Pick<api.Generative, 'checkpoint' | 'negative'>;
/** All that requests may leave out: the page never does. The service leaves the quality out of a task that is the best, and the engine if none draws. */
export type UpscaleRequest = Required<Omit<api.UpscaleRequest, 'look' | 'quality' | 'generative'>> & {
  look: Look;
  quality?: Quality;
  generative?: Generative | null;
};

export type OutputFormat = NonNullable<api.Output['format']>;
export type Output = { format: OutputFormat; quality?: number; dpi?: number };
export type Submission = Required<Pick<api.Submission, 'image' | 'name'>> & { request: UpscaleRequest; output: Output };

export type Task = Omit<api.TaskDetail, 'request'> & { request: UpscaleRequest };
export type Status = Task['status'];
export type PictureFile = api.PictureFile;
export type Progress = api.TaskProgress;

export type Estimate = api.EstimateResponse;
export type Model = api.Model;
export type CheckpointList = api.CheckpointList;
export type GpuStatus = api.GpuStatus;
export type ApiKey = api.KeyInfo & Partial<Pick<api.CreatedKey, 'key'>>;
/** Without a key, where one is required, only the version and whether it is. */
export type ServiceStatus = { version: string; auth: Pick<api.AuthStatus, 'required'> } & Partial<api.Inside>;
