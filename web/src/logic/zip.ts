/** Writes zip archives without compression: pictures do not get smaller. APPNOTE.TXT 6.3, sections 4.3 and 4.4. */

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit += 1) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c >>> 0;
});

/** CRC-32 (ISO 3309), continued from `crc`. */
export function crc32(bytes: Uint8Array, crc = 0): number {
  let c = ~crc;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return ~c >>> 0;
}

interface Entry {
  name: Uint8Array<ArrayBuffer>;
  crc: number;
  size: number;
  offset: number;
}

/** Files and headers that go into one archive: 4 GB without the format's 64-bit extension, less room for the directory. */
export const MAX_BYTES = 0xffff_ffff - 16 * 1024 * 1024;

/** Collects files one by one; the parts are Blobs, which the browser may keep on disk. */
export class ZipWriter {
  #parts: BlobPart[] = [];
  #entries: Entry[] = [];
  #offset = 0;

  /** Bytes so far. */
  get size(): number {
    return this.#offset;
  }

  /** Adds a file. Names that are taken get a number. */
  async add(name: string, body: Blob): Promise<void> {
    if (this.#offset + body.size > MAX_BYTES) throw new RangeError('a zip archive holds at most 4 GB');
    let crc = 0;
    const reader = body.stream().getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      crc = crc32(value, crc);
    }
    const entry: Entry = { name: new TextEncoder().encode(this.#free(name)), crc, size: body.size, offset: this.#offset };
    const header = this.#header(0x04034b50, entry);
    this.#parts.push(header, entry.name, body);
    this.#offset += header.byteLength + entry.name.length + body.size;
    this.#entries.push(entry);
  }

  finish(): Blob {
    const start = this.#offset;
    let size = 0;
    for (const entry of this.#entries) {
      const header = this.#header(0x02014b50, entry);
      this.#parts.push(header, entry.name);
      size += header.byteLength + entry.name.length;
    }
    const end = new DataView(new ArrayBuffer(22));
    end.setUint32(0, 0x06054b50, true);
    end.setUint16(8, this.#entries.length, true);
    end.setUint16(10, this.#entries.length, true);
    end.setUint32(12, size, true);
    end.setUint32(16, start, true);
    return new Blob([...this.#parts, end.buffer], { type: 'application/zip' });
  }

  #free(name: string): string {
    const taken = new Set(this.#entries.map((e) => new TextDecoder().decode(e.name)));
    const [, base, ending] = /^(.*?)(\.[^.]*)?$/s.exec(name) ?? [];
    let free = name;
    for (let n = 2; taken.has(free); n += 1) free = `${base}-${n}${ending ?? ''}`;
    return free;
  }

  #header(signature: number, { name, crc, size, offset }: Entry): ArrayBuffer {
    const central = signature === 0x02014b50;
    const view = new DataView(new ArrayBuffer(central ? 46 : 30));
    view.setUint32(0, signature, true);
    const at = central ? 6 : 4;
    if (central) view.setUint16(4, 20, true);
    view.setUint16(at, 20, true);
    view.setUint16(at + 2, 0x0800, true); // names are UTF-8
    view.setUint16(at + 8, 0x21, true); // 1 January 1980: the same pictures give the same archive
    view.setUint32(at + 10, crc, true);
    view.setUint32(at + 14, size, true);
    view.setUint32(at + 18, size, true);
    view.setUint16(at + 22, name.length, true);
    if (central) view.setUint32(42, offset, true);
    return view.buffer;
  }
}
