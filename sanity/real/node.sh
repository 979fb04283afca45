#!/usr/bin/env bash
# node.sh -- node: maps, buffers, compression, worker threads and a child process.
. "$(dirname "$0")/common.inc"
need node
cat >work.js <<'END'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const zlib = require('zlib'), crypto = require('crypto'), { execFileSync } = require('child_process');
if (!isMainThread) {
  const m = new Map();
  for (let i = 0; i < 20000; i++) m.set('w' + workerData + i, Buffer.alloc(1 + i % 300, i));
  let sum = 0;
  for (const b of m.values()) sum += b.length * b[0];
  parentPort.postMessage(sum);
} else {
  const m = new Map();
  for (let i = 0; i < 100000; i++) m.set('key' + i, { n: i, s: 'x'.repeat(i % 40) });
  for (let i = 0; i < 100000; i += 3) m.delete('key' + i);
  console.log(m.size, JSON.stringify([...m.values()]).length);
  const buffers = [];
  for (let i = 0; i < 3000; i++) buffers.push(Buffer.alloc(i * 17, i % 251));
  const all = Buffer.concat(buffers);
  console.log(crypto.createHash('sha256').update(all).digest('hex'));
  const packed = zlib.gzipSync(all, { level: 3 });
  console.log(zlib.gunzipSync(packed).equals(all), packed.length);
  console.log(execFileSync(process.execPath, ['-e', 'console.log(6 * 7)']).toString().trim());
  const workers = [1, 2, 3, 4].map(n => new Promise((done, failed) => {
    const w = new Worker(__filename, { workerData: n });
    w.on('message', done); w.on('error', failed);
  }));
  Promise.all(workers).then(r => console.log(r));
}
END
node -e 1 >/dev/null 2>&1 || { echo "skip: node does not start here"; exit 77; }
preload_works node -e 1
same "node" node work.js
