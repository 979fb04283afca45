#!/usr/bin/env bash
# node.sh -- a node program: an HTTP server, worker threads, compression in the thread pool; every answer is
# checked.
. "$(dirname "$0")/common.inc"
need node nodejs

cat >"$work/main.js" <<'JS'
const { Worker, isMainThread, workerData, parentPort } = require('worker_threads');
const crypto = require('crypto'), http = require('http'), zlib = require('zlib'), fs = require('fs');
const assert = require('assert');

function text(seed) {
  let s = '';
  for (let i = 0; i < 50 + seed % 400; i++) s += `item ${seed * 31 + i}; `;
  return s;
}

if (!isMainThread) {
  const end = Date.now() + workerData.ms;
  let rounds = 0;
  for (let seed = workerData.seed; Date.now() < end; seed += 7, rounds++) {
    const s = text(seed), packed = zlib.gzipSync(s);
    assert.strictEqual(zlib.gunzipSync(packed).toString(), s);
    const map = new Map();
    for (let i = 0; i < 2000; i++) map.set('k' + i, Buffer.alloc(i % 500, i & 255));
    let sum = 0;
    for (const b of map.values()) sum += b.length;
    assert.strictEqual(sum, 4 * (499 * 500 / 2));
    const big = Buffer.alloc(300000 + seed % 1000000, seed & 255);
    assert.strictEqual(big[big.length - 1], seed & 255);
    assert.deepStrictEqual(JSON.parse(JSON.stringify([s, seed])), [s, seed]);
  }
  parentPort.postMessage(rounds);
} else {
  assert(fs.readFileSync('/proc/self/maps', 'utf8').includes(process.argv[3]));
  const ms = Number(process.argv[2]) * 1000, end = Date.now() + ms;
  let answers = 0, rounds = 0, running = 0;
  const server = http.createServer((request, response) => {
    zlib.gzip(text(Number(request.url.slice(1))), (error, packed) => {
      assert.ifError(error);
      response.end(packed);
    });
  });
  const finish = () => {
    if (--running > 0) return;
    server.close();
    console.log(`node: ${answers} answers, ${rounds} rounds of workers`);
    assert(answers > 0 && rounds > 0);
  };
  const client = (socket, seed) => {
    if (Date.now() > end) return finish();
    http.get({ socketPath: socket, path: '/' + seed, agent: false }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => {
        assert.strictEqual(zlib.gunzipSync(Buffer.concat(parts)).toString(), text(seed));
        answers++;
        client(socket, seed + 8);
      });
    });
  };
  const socket = process.argv[4];
  server.listen(socket, () => {
    for (let i = 0; i < 8; i++) { running++; client(socket, i); }
    const start = (i) => {
      running++;
      const worker = new Worker(__filename, { workerData: { ms: 1500, seed: i } });
      worker.on('error', (error) => { console.error(error); process.exit(1); });
      worker.on('message', (count) => { rounds += count; });
      worker.on('exit', () => { if (Date.now() < end) start(i + 1); finish(); });
    };
    for (let i = 0; i < 3; i++) start(i * 100);
  });
}
JS
timeout $((seconds + 120)) env LD_PRELOAD="$library" node "$work/main.js" "$seconds" "$library" "$work/s.sock" \
    >"$work/node.log" 2>&1 || fail "node"
grep '^node:' "$work/node.log" || fail "no closing line"
