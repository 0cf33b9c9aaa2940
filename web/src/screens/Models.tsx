/** The networks at hand. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import * as api from '../api.ts';
import { bytes } from '../logic/format.ts';
import { S } from '../strings.ts';
import { complain, say } from '../state/store.ts';
import type { Model } from '../types.ts';
import { Sure } from '../ui/controls.tsx';
import { Plus, Trash } from '../ui/icons.tsx';

export function Models() {
  const models = useSignal<Model[]>([]);
  const adding = useSignal<string | null>(null);
  const removing = useSignal<Model | null>(null);
  const picker = useRef<HTMLInputElement>(null);
  const load = () => api.models().then((list) => (models.value = list), complain);
  useEffect(() => void load(), []);

  async function add(file: File) {
    adding.value = file.name;
    try {
      const model = await api.addModel(file);
      say(S.models.added(model.title ?? model.name));
      await load();
    } catch (error) {
      complain(error);
    } finally {
      adding.value = null;
    }
  }

  return (
    <div
      class="page models"
      onDragOver={(e) => e.preventDefault()}
      onDrop={(e) => {
        e.preventDefault();
        e.stopPropagation();
        const file = e.dataTransfer?.files[0];
        if (file) add(file);
      }}
    >
      <div class="row between page-head">
        <h1 tabIndex={-1}>{S.models.title}</h1>
        <span class="row">
          <span class="muted" role="status">
            {adding.value ? S.models.adding(adding.value) : S.models.addHint}
          </span>
          <button type="button" disabled={adding.value !== null} onClick={() => picker.current?.click()}>
            <Plus />
            {S.models.add}
          </button>
        </span>
        <input
          ref={picker}
          class="sr"
          type="file"
          tabIndex={-1}
          aria-label={S.models.add}
          accept=".pth,.pt,.safetensors,.ncnn,.bin,.param,.zip"
          onChange={(e) => {
            const file = e.currentTarget.files?.[0];
            e.currentTarget.value = '';
            if (file) add(file);
          }}
        />
      </div>
      <p class="muted intro">{S.models.intro}</p>
      <ul class="model-list">
        {models.value.map((m) => (
          <li key={m.name} class="model">
            <div class="row between">
              <h2>{m.title ?? m.name}</h2>
              <span class="badge">{m.bundled ? S.models.bundled : S.models.yours}</span>
            </div>
            {m.description && <p>{m.description}</p>}
            <dl class="facts">
              <Fact term={S.models.scale}>{m.scale}×</Fact>
              <Fact term={S.models.parameters}>{S.models.millions(m.parameters)}</Fact>
              <Fact term={S.models.architecture}>{m.architecture}</Fact>
              <Fact term={S.models.licence}>{m.licence}</Fact>
              {m.source && <Fact term={S.models.source}>{m.source}</Fact>}
              <Fact term={S.models.fingerprint}>
                <code title={m.sha256}>{m.sha256.slice(0, 16)}…</code>
                {m.bytes ? ` ${bytes(m.bytes)}` : ''}
              </Fact>
            </dl>
            {!m.bundled && (
              <button type="button" aria-label={S.queue.of(S.models.remove, m.name)} onClick={() => (removing.value = m)}>
                <Trash />
                {S.models.remove}
              </button>
            )}
          </li>
        ))}
      </ul>
      {removing.value && (
        <Sure
          question={S.models.removeSure(removing.value.name)}
          yes={S.models.remove}
          onYes={() => api.removeModel(removing.value!.name).then(load, complain)}
          onClose={() => (removing.value = null)}
        />
      )}
    </div>
  );
}

export function Fact({ term, children }: { term: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{children}</dd>
    </div>
  );
}
