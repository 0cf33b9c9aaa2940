/** Settings in a few words. */

import { KNOBS } from '../knobs.ts';
import { S } from '../strings.ts';
import type { Task, UpscaleRequest } from '../wire.ts';
import { ago, extension } from './format.ts';
import { decimal, signedNumber } from './numbers.ts';
import { factorOf } from './sizes.ts';

/** "creative, creativity +3, sparkle": what sets a request apart, but for its size. */
export function styleOf({ look, model, quality = 'best' }: UpscaleRequest): string {
  const parts: string[] = [S.enlarge[look.mode].toLowerCase()];
  if (look.mode === 'creative') {
    for (const { name, title } of KNOBS.creative) if (look[name]) parts.push(`${title.toLowerCase()} ${signedNumber(look[name])}`);
    if (look.engine !== 'automatic') parts.push(S.engines[look.engine][0].toLowerCase());
    if (look.optimized_for !== 'standard') parts.push(S.optimizedFor[look.optimized_for].toLowerCase());
  } else {
    parts.push(KNOBS.precision.map(({ name }) => look[name]).join(' / '));
    if (look.flavor) parts.push(S.flavors[look.flavor].split(':')[0]!.toLowerCase());
  }
  if (model) parts.push(model);
  if (quality !== 'best') parts.push(S.qualities[quality][0].toLowerCase());
  return parts.join(', ');
}

/** "4× creative, creativity +3, sparkle". */
export const describe = ({ request, source }: Task) => `${source ? S.enlarge.factor(decimal(factorOf(request, source))) : '?'} ${styleOf(request)}`;

/** What sets a result apart from others of the same image. */
export const variant = (task: Task) =>
  [describe(task), extension(task.result!.media_type).toUpperCase(), ago(task.finished_at ?? task.created_at)].join(', ');
