/** What the server tells of itself. */

import { computed, signal } from '@preact/signals';
import * as api from '../api.ts';
import { UNKNOWN_LIMITS, type Limits } from '../logic/sizes.ts';
import type { ServiceStatus } from '../wire.ts';

/** As it was last told; `null` before. */
export const service = signal<ServiceStatus | null>(null);

export async function learn(): Promise<void> {
  try {
    service.value = await api.status();
  } catch {
    // What was known stays; a lost connection is shown by the banner.
  }
}

/** As text: told again, the same limits are no change. */
const told = computed(() => JSON.stringify(service.value?.limits ?? null));

export const limits = computed<Limits>(() => {
  const l: ServiceStatus['limits'] | null = JSON.parse(told.value);
  if (!l) return UNKNOWN_LIMITS;
  return {
    maxBodyBytes: l.max_body_bytes,
    maxSourcePixels: l.max_source_pixels,
    maxResultPixels: (l.max_result_megapixels ?? Infinity) * 1e6,
  };
});
