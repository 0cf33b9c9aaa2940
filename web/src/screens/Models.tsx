/** The models at hand. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import * as api from '../api.ts';
import { bytes } from '../logic/format.ts';
import { percent } from '../logic/numbers.ts';
import { modelsOf } from '../logic/pairs.ts';
import { S } from '../strings.ts';
import { complain, complainOf, say } from '../state/store.ts';
import type { Model } from '../wire.ts';
import { Sure } from '../ui/controls.tsx';
import { Plus, Trash } from '../ui/icons.tsx';

export function Models() {
  const models = useSignal<Model[]>([]);
  const adding = useSignal<string | null>(null);
  const removing = useSignal<Model | null>(null);
  const picker = useRef<HTMLInputElement>(null);
  const load = () => api.models().then((list) => (models.value = list), complain);
  useEffect(() => void load(), []);

  async function add(files: FileList | null | undefined) {
    const list = [...(files ?? [])];
    if (!list.length) return;
    const problems: unknown[] = [];
    for (const group of modelsOf(list)) {
      const name = group.map((file) => file.name).join(' + ');
      adding.value = name;
      try {
        const model = await api.addModel(group, (share) => {
          adding.value = share < 1 ? `${name} ${percent(share)}` : name;
        });
        say(S.models.added(model.title));
      } catch (error) {
        problems.push(error);
      }
    }
    adding.value = null;
    complainOf(problems, S.models.refused);
    await load();
  }

  return (
    <div
      class="page models"
      onDragOver={(e) => e.preventDefault()}
      onDrop={(e) => {
        e.preventDefault();
        e.stopPropagation();
        add(e.dataTransfer?.files);
      }}
    >
      <div class="row between page-head">
        <h1 tabIndex={-1}>{S.models.title}</h1>
        <span class="row">
          <span class="muted" role="status">
            {adding.value && S.models.adding(adding.value)}
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
          multiple
          tabIndex={-1}
          aria-label={S.models.add}
          accept=".pth,.pt,.safetensors,.bin,.param"
          onChange={(e) => {
            const picked = e.currentTarget;
            add(picked.files).finally(() => (picked.value = ''));
          }}
        />
      </div>
      <p class="muted intro">
        {S.models.intro} {S.models.addHint}
      </p>
      <ul class="model-list">
        {models.value.map((m) => (
          <li key={m.name} class="model">
            <div class="row between">
              <h2>{m.title}</h2>
              <span class="badge">{m.bundled ? S.models.bundled : S.models.yours}</span>
            </div>
            {m.bundled && <p>{m.good_at}</p>}
            <dl class="facts">
              <Fact term={S.models.scale}>{m.scale}×</Fact>
              <Fact term={S.models.parameters}>{S.models.millions(m.parameters)}</Fact>
              <Fact term={S.models.architecture}>{m.architecture}</Fact>
              <Fact term={S.models.license}>{m.license}</Fact>
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
          question={S.models.removeSure(removing.value.title)}
          hint={S.models.removeHint}
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
