// Stock tuf-js clients: each fetches and verifies targets of a repository, given nothing but a root and a folder.
// Reads an order a line: {"root", "metadata_url", "targets_url", "folder", "paths", "ahead_seconds"}. Answers with one
// line of JSON: the state it trusts and what it got, or the name of the error by which it refused.
// One process serves many clients, because starting one takes longer than all that a client does.

import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Updater } from 'tuf-js';

const RealDate = Date;
const CONNECTIONS = Symbol.for('undici.globalDispatcher.1');

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await poll(JSON.parse(line))));
}

async function poll({ root, metadata_url, targets_url, folder, paths, ahead_seconds }) {
  const metadataDir = join(folder, 'metadata');
  const targetDir = join(folder, 'targets');
  mkdirSync(metadataDir, { recursive: true });
  mkdirSync(targetDir, { recursive: true });
  copyFileSync(root, join(metadataDir, 'root.json'));
  shiftClock(ahead_seconds);
  try {
    const updater = new Updater({
      metadataDir,
      metadataBaseUrl: metadata_url,
      targetDir,
      targetBaseUrl: targets_url,
      config: { fetchRetries: 0, fetchRetry: 0 },
    });
    await updater.refresh();
    const targets = {};
    for (const path of paths) {
      const info = await updater.getTargetInfo(path);
      if (info === undefined) {
        targets[path] = null;
        continue;
      }
      const file = await updater.downloadTarget(info);
      const bytes = readFileSync(file);
      targets[path] = { length: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex'), file };
    }
    const timestamp = JSON.parse(readFileSync(join(metadataDir, 'timestamp.json'), 'utf8'));
    return { timestamp: timestamp.signed.version, targets };
  } catch (error) {
    return { refused: error.constructor.name, message: error.message };
  } finally {
    hangUp();
  }
}

function shiftClock(aheadSeconds) {
  globalThis.Date = !aheadSeconds ? RealDate : class extends RealDate {
    constructor(...given) {
      given.length ? super(...given) : super(RealDate.now() + aheadSeconds * 1000);
    }
  };
}

// As the end of a process does: a mirror may keep a refused answer's connection open for ever, and what one client was
// sent too much must never be read by the next.
function hangUp() {
  const used = globalThis[CONNECTIONS];
  if (used === undefined) return;
  globalThis[CONNECTIONS] = new used.constructor();
  used.destroy().catch(() => {});
}
