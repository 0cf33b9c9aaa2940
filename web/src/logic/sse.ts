/** Server-sent events from a byte stream (WHATWG HTML, section 9.2), so that a request header can carry the key. */

export interface ServerEvent {
  event: string;
  data: string;
}

/** Feeds on text in any pieces and hands out whole events. */
export class EventParser {
  #rest = '';
  #event = '';
  #data: string[] = [];

  push(chunk: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const lines = (this.#rest + chunk).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length) events.push({ event: this.#event || 'message', data: this.#data.join('\n') });
        this.#event = '';
        this.#data = [];
        continue;
      }
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (field === 'event') this.#event = value ?? '';
      if (field === 'data') this.#data.push(value ?? '');
    }
    return events;
  }
}
