/** The present settings as something to run elsewhere. */

import type { Look } from '../types.ts';

export interface Snippet {
  base: string;
  file: string;
  factor: number;
  look: Look;
}

/** The public endpoint of a look, and its fields but for the picture. */
export function publicForm({ look, factor }: Snippet): { path: string; fields: Record<string, unknown> } {
  if (look.mode === 'creative') {
    const { mode: _, prompt, ...knobs } = look;
    const fields = { scale_factor: `${factor}x`, ...knobs, ...(prompt ? { prompt } : {}) };
    return { path: '/v1/ai/image-upscaler', fields };
  }
  const { mode: _, flavor, ...knobs } = look;
  return {
    path: '/v1/ai/image-upscaler-precision-v2',
    fields: { scale_factor: factor, ...knobs, ...(flavor ? { flavor } : {}) },
  };
}

export function curl(snippet: Snippet): string {
  const { path, fields } = publicForm(snippet);
  // The picture goes through a pipe: arguments of a program may not be that long.
  const format = JSON.stringify({ image: '', ...fields })
    .replace(/%/g, '%%')
    .replace(/\\/g, '\\\\')
    .replace('"image":""', '"image":"%s"')
    .replace(/'/g, `'\\''`);
  return [
    `printf '${format}' "$(base64 < ${shell(snippet.file)} | tr -d '\\n')" |`,
    `  curl --fail-with-body -sS ${snippet.base}${path} \\`,
    `    -H 'Content-Type: application/json' -H "X-API-KEY: $ENLARGER_KEY" --data-binary @-`,
    `# then: curl -sS ${snippet.base}${path}/TASK_ID`,
  ].join('\n');
}

export function python(snippet: Snippet): string {
  const { path, fields } = publicForm(snippet);
  return `import base64, json, os, time, urllib.request

URL = ${py(snippet.base + path)}
HEADERS = {"Content-Type": "application/json", "X-API-KEY": os.environ.get("ENLARGER_KEY", "")}


def call(url, body=None):
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(url, data, HEADERS)) as answer:
        return json.load(answer)["data"]


with open(${py(snippet.file)}, "rb") as picture:
    image = base64.b64encode(picture.read()).decode()
task = call(URL, {"image": image, ${Object.entries(fields).map(([k, v]) => `${py(k)}: ${py(v)}`).join(', ')}})
while task["status"] in ("CREATED", "IN_PROGRESS"):
    time.sleep(1)
    task = call(URL + "/" + task["task_id"])
if task["status"] != "COMPLETED":
    raise SystemExit(task.get("error") or task["status"])
urllib.request.urlretrieve(task["generated"][0], "enlarged.png")
`;
}

/** A workflow in ComfyUI's API format: load, enlarge by the Magnific node, save. */
export function comfy({ file, factor, look }: Snippet): string {
  // The node offers only these factors.
  const scale_factor = `${[16, 8, 4, 2].find((f) => f <= factor) ?? 2}x`;
  const image = ['1', 0];
  const node =
    look.mode === 'creative'
      ? {
          class_type: 'MagnificImageUpscalerCreativeNode',
          inputs: { image, scale_factor, ...without(look, 'mode'), prompt: look.prompt ?? '', auto_downscale: false },
        }
      : {
          class_type: 'MagnificImageUpscalerPreciseV2Node',
          inputs: { image, scale_factor, ...without(look, 'mode'), flavor: look.flavor ?? 'photo', auto_downscale: false },
        };
  const workflow = {
    1: { class_type: 'LoadImage', inputs: { image: file } },
    2: node,
    3: { class_type: 'SaveImage', inputs: { images: ['2', 0], filename_prefix: 'enlarger' } },
  };
  return JSON.stringify(workflow, null, 2);
}

function without<T extends object, K extends keyof T>(object: T, key: K): Omit<T, K> {
  const { [key]: _, ...rest } = object;
  return rest;
}

const shell = (text: string) => (/^[\w./-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`);
/** JSON's strings and numbers are Python's too. */
const py = (value: unknown) => JSON.stringify(value);
