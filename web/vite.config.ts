import { defineConfig } from 'vite';

/** Where `npm run dev` finds the service. */
const SERVICE = process.env.ENLARGER_URL ?? 'http://127.0.0.1:7788';

export default defineConfig({
  base: './',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    // Everything is a file of its own: the Content-Security-Policy allows no data: scripts or styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: 'es' },
  server: {
    proxy: Object.fromEntries(['/api', '/files', '/customers', '/v1'].map((path) => [path, { target: SERVICE }])),
  },
});
