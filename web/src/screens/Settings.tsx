/** Appearance, keys, storage, health and limits. */

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import * as api from '../api.ts';
import { ago, bytes, duration, megapixels } from '../logic/format.ts';
import { count } from '../logic/numbers.ts';
import { S } from '../strings.ts';
import { canNotify, notifying, turnOn } from '../state/notify.ts';
import { learn, service } from '../state/service.ts';
import { complain, say, theme, type Theme } from '../state/store.ts';
import type { ApiKey, ServiceStatus } from '../wire.ts';
import { Choice, Sure } from '../ui/controls.tsx';
import { Alert, Check } from '../ui/icons.tsx';
import { Fact } from './Models.tsx';

const T = S.settings;
/** How often figures are read again, in milliseconds. */
const REFRESH = 5000;

export function Settings() {
  useEffect(() => {
    learn();
    const timer = setInterval(learn, REFRESH);
    return () => clearInterval(timer);
  }, [api.apiKey.value]);
  const s = service.value;

  return (
    <div class="page settings">
      <h1 tabIndex={-1} class="page-head">
        {T.title}
      </h1>
      <div class="columns">
        {s && <Health s={s} />}
        {s?.storage && <Storage s={s} />}
        {s?.limits && <Limits s={s} />}
        <section class="card">
          <h2>{T.appearance}</h2>
          <Choice<Theme>
            label={S.theme.label}
            hideLabel
            value={theme.value}
            options={(['system', 'dark', 'light'] as const).map((value) => ({ value, label: S.theme[value] }))}
            onChange={(value) => (theme.value = value)}
          />
        </section>
        <Notifications />
        <Access required={s?.auth.required ?? false} />
        <Keys />
      </div>
    </div>
  );
}

function Health({ s }: { s: ServiceStatus }) {
  const bad = s.checks?.filter((c) => !c.ok) ?? [];
  return (
    <section class="card" aria-labelledby="health">
      <h2 id="health">{T.health}</h2>
      {bad.length === 0 ? (
        <p class="well">
          <Check />
          {T.allWell}
        </p>
      ) : (
        bad.map((c) => (
          <p key={c.name} class="unwell">
            <Alert />
            {c.message}
          </p>
        ))
      )}
      <dl class="facts">
        <Fact term={T.version}>{s.version}</Fact>
        {s.uptime_seconds !== undefined && <Fact term={T.uptime}>{duration(s.uptime_seconds)}</Fact>}
        {s.queue && <Fact term={T.queue}>{T.queueState(s.queue.waiting, s.queue.running)}</Fact>}
        {s.machine && (
          <>
            <Fact term={T.machine}>
              {s.machine.backend}, {T.threads(s.machine.threads)}
            </Fact>
            {s.machine.devices.map(
              ({ name, slots, running, gpu }, at) =>
                gpu && (
                  <Fact key={at} term={T.gpu}>
                    {T.gpuState(name, gpu, running, slots)}
                  </Fact>
                ),
            )}
            <Fact term={T.memory}>{T.memoryOf(bytes(s.machine.memory_available), bytes(s.machine.memory_total))}</Fact>
          </>
        )}
      </dl>
      {s.nodes && s.nodes.length > 1 && <Nodes nodes={s.nodes} />}
    </section>
  );
}

/** The processes of a service on several machines. */
function Nodes({ nodes }: { nodes: NonNullable<ServiceStatus['nodes']> }) {
  return (
    <>
      <h3>{T.nodes}</h3>
      <ul class="nodes">
        {nodes.map((n) => (
          <li key={n.id}>
            <code>{n.id}</code> {n.host} · {n.role} {n.version}
            {n.works && ` · ${n.device}, ${T.threads(n.threads)}, ${bytes(n.memory_total)}`}
            {n.draining && ` · ${T.draining}`}
          </li>
        ))}
      </ul>
    </>
  );
}

function Storage({ s }: { s: ServiceStatus }) {
  const { used_bytes, free_bytes, data_dir } = s.storage!;
  return (
    <section class="card" aria-labelledby="storage">
      <h2 id="storage">{T.storage}</h2>
      {used_bytes !== null && free_bytes !== null && (
        <meter min={0} max={used_bytes + free_bytes} value={used_bytes} aria-label={T.used_} />
      )}
      <dl class="facts">
        {used_bytes !== null && <Fact term={T.used_}>{bytes(used_bytes)}</Fact>}
        {free_bytes !== null && <Fact term={T.free}>{bytes(free_bytes)}</Fact>}
        <Fact term={T.folder}>
          <code>{data_dir}</code>
        </Fact>
        {s.retention_seconds !== undefined && (
          <Fact term={T.retention}>{s.retention_seconds === null ? T.untilDeleted : duration(s.retention_seconds)}</Fact>
        )}
        {s.disk_budget_bytes && <Fact term={T.budget}>{bytes(s.disk_budget_bytes)}</Fact>}
        {s.history_seconds !== undefined && <Fact term={T.history}>{duration(s.history_seconds)}</Fact>}
      </dl>
    </section>
  );
}

function Limits({ s }: { s: ServiceStatus }) {
  const l = s.limits!;
  return (
    <section class="card" aria-labelledby="limits">
      <h2 id="limits">{T.limits}</h2>
      <dl class="facts">
        <Fact term={T.limitUpload}>{bytes(l.max_body_bytes)}</Fact>
        <Fact term={T.limitSource}>{megapixels(l.max_source_pixels, 1)}</Fact>
        <Fact term={T.limitResult}>{l.max_result_megapixels ? megapixels(l.max_result_megapixels * 1e6, 1) : T.byMemory}</Fact>
        <Fact term={T.queue}>{count(l.queue)}</Fact>
      </dl>
    </section>
  );
}

function Notifications() {
  const denied = useSignal(false);
  return (
    <section class="card" aria-labelledby="notify">
      <h2 id="notify">{T.notify}</h2>
      <label class="check">
        <input
          type="checkbox"
          checked={notifying.value}
          disabled={!canNotify}
          onChange={async (e) => {
            const box = e.currentTarget;
            if (box.checked) denied.value = !(await turnOn());
            else notifying.value = false;
            box.checked = notifying.value;
          }}
        />
        {T.notifyMe}
      </label>
      <p class="hint">{!canNotify ? T.notifyNone : denied.value ? T.notifyDenied : T.notifyHint}</p>
    </section>
  );
}

function Access({ required }: { required: boolean }) {
  const key = useSignal(api.apiKey.value);
  return (
    <section class="card" aria-labelledby="access">
      <h2 id="access">{T.access}</h2>
      <p class="muted">{required ? T.accessOn : T.accessOff}</p>
      <form
        class="row"
        onSubmit={(e) => {
          e.preventDefault();
          api.setApiKey(key.value.trim());
          say(T.accessKept);
        }}
      >
        <div class="field grow">
          <label for="own-key">{T.accessField}</label>
          <input id="own-key" type="password" autocomplete="off" value={key.value} onInput={(e) => (key.value = e.currentTarget.value)} />
        </div>
        <button disabled={!key.value.trim()}>{T.accessSave}</button>
        {api.apiKey.value && (
          <button
            type="button"
            class="bare"
            onClick={() => {
              key.value = '';
              api.setApiKey('');
            }}
          >
            {T.accessForget}
          </button>
        )}
      </form>
    </section>
  );
}

function Keys() {
  const list = useSignal<ApiKey[]>([]);
  const made = useSignal<ApiKey | null>(null);
  const revoking = useSignal<ApiKey | null>(null);
  const name = useSignal('');
  const load = () => api.keys().then((keys) => (list.value = keys), complain);
  useEffect(() => void load(), [api.apiKey.value]);

  async function create(e: Event) {
    e.preventDefault();
    try {
      made.value = await api.createKey(name.value.trim());
      name.value = '';
      await load();
    } catch (error) {
      complain(error);
    }
  }

  return (
    <section class="card wide" aria-labelledby="keys">
      <h2 id="keys">{T.keys}</h2>
      <p class="muted">{T.keysHint}</p>
      {made.value?.key && (
        <div class="fresh-key" role="status">
          <p>{T.keyOnce}</p>
          <div class="row">
            <code>{made.value.key}</code>
            <button
              type="button"
              onClick={() =>
                navigator.clipboard.writeText(made.value!.key!).then(
                  () => say(S.enlarge.copied(T.keyField)),
                  () => say(S.enlarge.copyFailed, 'error', S.enlarge.copyFailedHint),
                )
              }
            >
              {T.keyCopy}
            </button>
          </div>
        </div>
      )}
      {list.value.length === 0 ? (
        <p>{T.noKeys}</p>
      ) : (
        <ul class="key-list">
          {list.value.map((k) => (
            <li key={k.id} class={k.revoked_at ? 'is-revoked' : ''}>
              <b>{k.name}</b>
              <code>{k.prefix}…</code>
              <span class="muted small">
                {k.revoked_at ? T.revoked : k.last_used_at ? T.used(ago(k.last_used_at)) : T.neverUsed}
              </span>
              {!k.revoked_at && (
                <button type="button" class="bare" aria-label={T.keyRevoke(k.name)} onClick={() => (revoking.value = k)}>
                  {T.revoke}
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      <form class="row" onSubmit={create}>
        <div class="field grow">
          <label for="key-name">{T.keyName}</label>
          <input id="key-name" maxLength={100} value={name.value} onInput={(e) => (name.value = e.currentTarget.value)} />
        </div>
        <button disabled={!name.value.trim()}>{T.keyCreate}</button>
      </form>
      {revoking.value && (
        <Sure
          question={T.keyRevokeSure(revoking.value.name)}
          yes={T.revoke}
          onYes={() => api.revokeKey(revoking.value!.id).then(load, complain)}
          onClose={() => (revoking.value = null)}
        />
      )}
    </section>
  );
}
