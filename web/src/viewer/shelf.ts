/** Pictures held open by name: a picture of 100 megapixels takes 400 MB. */

import type { Pictures, Source } from './sources.ts';

export class Shelf {
  /** In order of use. */
  readonly #held = new Map<string, Promise<Source>>();

  constructor(private readonly pictures: Pictures) {}

  has(name: string): boolean {
    return this.#held.has(name);
  }

  /** The picture of this name; opened if it is not held. What could not be opened is tried anew the next time. */
  get(name: string, open: () => Promise<Source>): Promise<Source> {
    const opening = this.#held.get(name) ?? open();
    this.#held.delete(name);
    this.#held.set(name, opening);
    opening.catch(() => this.#held.delete(name));
    return opening;
  }

  /** Lets go of those that were not asked for the longest, but for so many. */
  keep(count: number): void {
    for (const [name, opening] of this.#held) {
      if (this.#held.size <= count) return;
      this.#held.delete(name);
      opening.then((source) => this.pictures.release(source)).catch(() => {});
    }
  }
}
