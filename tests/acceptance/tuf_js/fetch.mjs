// A stock tuf-js client: fetches and verifies targets of a repository, given nothing but a root.
// usage: node fetch.mjs ROOT METADATA_URL TARGETS_URL FOLDER PATH...
// Prints one line of JSON: the state it trusts and what it got. Ends with 1 and the error's name if it refused.

import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Updater } from 'tuf-js';

const [root, metadataBaseUrl, targetBaseUrl, folder, ...paths] = process.argv.slice(2);
const metadataDir = join(folder, 'metadata');
const targetDir = join(folder, 'targets');
mkdirSync(metadataDir, { recursive: true });
mkdirSync(targetDir, { recursive: true });
copyFileSync(root, join(metadataDir, 'root.json'));

try {
  const updater = new Updater({
    metadataDir,
    metadataBaseUrl,
    targetDir,
    targetBaseUrl,
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
  console.log(JSON.stringify({ timestamp: timestamp.signed.version, targets }));
} catch (error) {
  console.log(JSON.stringify({ refused: error.constructor.name, message: error.message }));
  // A mirror may keep the refused answer's connection open for ever.
  process.exit(1);
}
