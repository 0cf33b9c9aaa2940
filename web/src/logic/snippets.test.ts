import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { comfy, curl, python, type Snippet } from './snippets.ts';

const AWKWARD = `it's 100% "sharp" \\ (eyes:1.3) $HOME \`id\``;
const creative: Snippet = {
  base: 'http://127.0.0.1:7788',
  file: "holiday's photo.jpg",
  factor: 4,
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
};

/** What a snippet would send, had `curl` been a program that prints its input. */
function sentByShell(script: string): unknown {
  const dir = mkdtempSync(join(tmpdir(), 'snippet-'));
  writeFileSync(join(dir, creative.file), 'picture bytes');
  writeFileSync(join(dir, 'curl'), '#!/bin/sh\nexec cat\n', { mode: 0o755 });
  const out = execFileSync('bash', ['-c', script], { cwd: dir, env: { ...process.env, PATH: `${dir}:${process.env.PATH}` } });
  return JSON.parse(out.toString());
}

test('the curl snippet sends the settings whole, whatever the prompt and the file name hold', () => {
  expect(sentByShell(curl(creative))).toEqual({
    image: Buffer.from('picture bytes').toString('base64'),
    scale_factor: '4x',
    creativity: 3,
    hdr: -2,
    resemblance: 0,
    fractality: 1,
    engine: 'magnific_sharpy',
    optimized_for: '3d_renders',
    prompt: AWKWARD,
  });
});

test('the Python snippet is Python, and the ComfyUI snippet is a workflow of its node', () => {
  execFileSync('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: python(creative) });
  const workflow = JSON.parse(comfy(creative));
  expect(workflow[2].class_type).toBe('MagnificImageUpscalerCreativeNode');
  expect(workflow[2].inputs).toMatchObject({ scale_factor: '4x', creativity: 3, prompt: AWKWARD, image: ['1', 0] });
});
