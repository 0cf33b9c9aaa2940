/** The present settings as something to run elsewhere. */

import type { Output, UpscaleRequest } from '../wire.ts';

export interface Snippet {
  /** The server's address, without a slash at its end. */
  base: string;
  file: string;
  request: UpscaleRequest;
  output: Output;
}

/** The body of a task without its image: what was not set is left out. */
function task({ file, request, output }: Snippet): Record<string, unknown> {
  const { size, look, model, generative } = request;
  const quality = qualityOf(request);
  const rest = { ...(model ? { model } : {}), ...(quality ? { quality } : {}), ...(generative ? { generative } : {}) };
  return { name: file, request: { size, look, ...rest }, output };
}

/** The quality, unless it is the one that is used if none is named. */
const qualityOf = ({ quality }: UpscaleRequest) => (quality === 'best' ? undefined : quality);

/** The flags of `enlarger upscale` are named as the fields are. */
export function commandLine({ file, request, output }: Snippet): string {
  const { look, model, size } = request;
  const { mode, ...knobs } = look;
  const words = ['enlarger', 'upscale', shell(file.startsWith('-') ? `./${file}` : file)];
  for (const [name, value] of Object.entries(size)) words.push(name === 'factor' ? `-s ${value}x` : `--${name} ${value}`);
  if (model) words.push(`-m ${shell(model)}`);
  const quality = qualityOf(request);
  if (quality) words.push(`--quality ${quality}`);
  for (const name of ['checkpoint', 'negative'] as const) {
    const value = request.generative?.[name];
    if (value != null) words.push(`--${name} ${shell(value)}`);
  }
  const neutral: readonly unknown[] = [0, null, 'automatic', 'standard'];
  for (const [name, value] of Object.entries(knobs)) {
    // One flag of Precision is enough to choose it, but all have their own defaults.
    if (mode === 'precision' ? value === null : neutral.includes(value)) continue;
    words.push(`--${name.replace(/_/g, '-')} ${shell(String(value))}`);
  }
  words.push(`-f ${output.format}`);
  if (output.quality) words.push(`-q ${output.quality}`);
  if (output.dpi) words.push(`--dpi ${output.dpi}`);
  return words.join(' ');
}

export function curl(snippet: Snippet): string {
  const tasks = `${snippet.base}/api/tasks`;
  // The image goes through a pipe: arguments of a program may not be that long.
  const format = JSON.stringify({ image: '', ...task(snippet) })
    .replace(/%/g, '%%')
    .replace(/\\/g, '\\\\')
    .replace('"image":""', '"image":"%s"')
    .replace(/'/g, `'\\''`);
  return [
    `printf '${format}' "$(base64 < ${shell(snippet.file)} | tr -d '\\n')" |`,
    `  curl --fail-with-body -sS ${tasks} \\`,
    `    -H 'Content-Type: application/json' -H "X-API-KEY: $ENLARGER_KEY" --data-binary @-`,
    `# Then repeat this until "status" is COMPLETED; the URL is in "result":`,
    `# curl -sS -H "X-API-KEY: $ENLARGER_KEY" ${tasks}/TASK_ID`,
  ].join('\n');
}

export function python(snippet: Snippet): string {
  return `import base64, json, os, time, urllib.request

URL = ${py(`${snippet.base}/api/tasks`)}
HEADERS = {"Content-Type": "application/json", "X-API-KEY": os.environ.get("ENLARGER_KEY", "")}


def call(url, body=None):
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(url, data, HEADERS)) as answer:
        return json.load(answer)


with open(${py(snippet.file)}, "rb") as file:
    image = base64.b64encode(file.read()).decode()
body = json.loads(r'''${JSON.stringify(task(snippet)).replace(/'/g, '\\u0027')}''')
task = call(URL, {"image": image, **body})
while task["status"] in ("CREATED", "IN_PROGRESS"):
    time.sleep(1)
    task = call(URL + "/" + task["task_id"])
if task["status"] != "COMPLETED":
    raise SystemExit(task.get("error") or task["status"])
urllib.request.urlretrieve(task["result"]["url"], "enlarged.${snippet.output.format}")
`;
}

/** A workflow in ComfyUI's API format: load, enlarge by the Magnific node, save. */
export function comfy({ file, request: { size, look } }: Snippet): string {
  // The node offers only these factors.
  const factor = 'factor' in size ? size.factor : 2;
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
