/** What went wrong, as a sentence, with what to do about it. */
export class Problem extends Error {
  constructor(
    message: string,
    readonly hint: string | null = null,
    readonly status = 0,
    private readonly invalid: readonly InvalidParam[] = [],
    private readonly code = '',
  ) {
    super(message);
  }

  /** Whether it is about the image, whatever is asked for. */
  get ofImage(): boolean {
    return this.code === 'image' || this.reasonOf('image') !== null;
  }

  /** Why the service refuses a field, without the field's name: “must be between -10 and 10”. `null` if it refuses another. */
  reasonOf(field: string): string | null {
    return this.invalid.find((param) => param.name === field)?.reason ?? null;
  }
}

/** What the service says as a sentence, which begins with a capital letter, unless with a name: of a file or a field. */
export const sentence = (text: string) => (/^\p{L}+(\s|$)/u.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text);

/** One field that the service refuses. */
export interface InvalidParam {
  name: string;
  reason: string;
}
