/** How long results are kept, in words. */

import { S } from '../strings.ts';
import type { ServiceStatus } from '../wire.ts';
import { bytes, duration } from './format.ts';

/** A sentence, or nothing while the server has not told. */
export function keptFor(status: ServiceStatus | null): string {
  const { retention_seconds: seconds, disk_budget_bytes: budget } = status ?? {};
  if (seconds === undefined) return '';
  if (seconds !== null) return S.queue.keptFor(duration(seconds));
  return budget ? S.queue.keptWithin(bytes(budget)) : S.queue.keptUntilDeleted;
}
