import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { comfy, commandLine, curl, python, type Snippet } from './snippets.ts';

const AWKWARD = `it's 100% "sharp" \\ (eyes:1.3) $HOME \`id\``;
const creative: Snippet = {
  base: 'http://127.0.0.1:7788',
  file: "holiday's photo.jpg",
  request: {
    size: { factor: 4 },
    look: {
      mode: 'creative',
      creativity: 3,
      hdr: -2,
      resemblance: 0,
      fractality: 1,
      engine: 'magnific_sharpy',
      optimized_for: '3d_renders',
      prompt: AWKWARD,
    },
    model: 'x4plus',
    seed: null,
    crop: null,
    quality: 'best',
  },
  output: { format: 'webp' },
};
const precision: Snippet = {
  ...creative,
  request: { ...creative.request, size: { factor: 3 }, look: { mode: 'precision', sharpen: 0, smart_grain: 7, ultra_detail: 30, flavor: null }, model: null, quality: 'fast' },
  output: { format: 'jpeg', quality: 90, dpi: 240 },
};

/** A folder with the image and programs that only print what they are given. */
function bench(...programs: [name: string, script: string][]) {
  const dir = mkdtempSync(join(tmpdir(), 'snippet-'));
  writeFileSync(join(dir, creative.file), 'image bytes');
  for (const [name, script] of programs) writeFileSync(join(dir, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return { cwd: dir, env: { ...process.env, PATH: `${dir}:${process.env.PATH}` } };
}

/** What a task is made of, as the page submits it. */
const asked = ({ request: { size, look, model, quality }, output, file }: Snippet) => ({
  name: file,
  request: { size, look, ...(model ? { model } : {}), ...(quality === 'fast' ? { quality } : {}) },
  output,
});

test.for([creative, precision])('the curl snippet sends all settings, whatever the prompt and the file name hold: $request.look.mode', (snippet) => {
  const out = execFileSync('bash', ['-c', curl(snippet)], bench(['curl', 'exec cat']));
  expect(JSON.parse(out.toString())).toEqual({ image: Buffer.from('image bytes').toString('base64'), ...asked(snippet) });
});

test.for([creative, precision])('the Python snippet sends all settings: $request.look.mode', (snippet) => {
  // Python's own parser, and the body as it evaluates it.
  const script = `import ast, json, sys
tree = ast.parse(sys.stdin.read())
body = next(n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == 'body')
print(json.dumps(eval(compile(ast.Expression(body), 's', 'eval'), {'json': json})))`;
  const out = execFileSync('python3', ['-c', script], { input: python(snippet) });
  expect(JSON.parse(out.toString())).toEqual(asked(snippet));
});

test('the command line has a flag for each setting that is not neutral', () => {
  const words = (snippet: Snippet) =>
    execFileSync('bash', ['-c', commandLine(snippet)], bench(['enlarger', `for word; do printf '%s\\0' "$word"; done`])).toString().split('\0').slice(0, -1);
  expect(words(creative)).toEqual([
    'upscale', creative.file, '-s', '4x', '-m', 'x4plus', '--creativity', '3', '--hdr', '-2', '--fractality', '1',
    '--engine', 'magnific_sharpy', '--optimized-for', '3d_renders', '--prompt', AWKWARD, '-f', 'webp',
  ]);
  expect(words(precision)).toEqual([
    'upscale', creative.file, '-s', '3x', '--quality', 'fast', '--sharpen', '0', '--smart-grain', '7', '--ultra-detail', '30', '-f', 'jpeg', '-q', '90', '--dpi', '240',
  ]);
  expect(words({ ...precision, file: '-v.png' }).slice(0, 2)).toEqual(['upscale', './-v.png']);
});

test('the ComfyUI snippet is a workflow of its node', () => {
  const workflow = JSON.parse(comfy(creative));
  expect(workflow[2].class_type).toBe('MagnificImageUpscalerCreativeNode');
  expect(workflow[2].inputs).toMatchObject({ scale_factor: '4x', creativity: 3, prompt: AWKWARD, image: ['1', 0] });
});
