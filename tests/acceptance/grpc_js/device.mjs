// A device in JavaScript, written from docs/device-protocol.md and device.proto, with nothing of ours in it.
// Started as `node device.mjs PROTO FOLDER`; FOLDER is the device's disk. Reads an order a line, {"do": ..., ...}, and
// answers each with a line of JSON: what came of it, or {"refused": status or error code, "message"}.

import 'reflect-metadata'; // @peculiar/x509 asks for it
import { createHash, webcrypto } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { gzipSync } from 'node:zlib';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { Updater } from 'tuf-js';

const [, , PROTO, FOLDER] = process.argv;
const KEPT = join(FOLDER, 'identity.json');
const CURVE = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DEADLINE_SECONDS = 20;

const loaded = protoLoader.loadSync(PROTO, { keepCase: true, enums: String, longs: Number, defaults: true });
const { DeviceService } = grpc.loadPackageDefinition(loaded).wavegate.device.v1;

let connection;

const ORDERS = {
  enroll,
  poll,
  check_in: (order) => call('CheckIn', order.message),
  report: (order) => call('Report', order.message),
  permit: (order) => call('Permit', order.message),
  upload_logs: uploadLogs,
  renew,
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  let told;
  try {
    told = await ORDERS[order.do](order);
  } catch (error) {
    told = { refused: grpc.status[error.code] ?? error.code ?? error.constructor.name, message: error.message };
    told.wavegate_code = error.metadata?.get('wavegate-code')[0];
  }
  console.log(JSON.stringify(told));
}

// --- Enrolment ---

async function enroll({ url, token, name, platform }) {
  const { keyPem, request } = await newKeyAndRequest();
  const body = { token, certificate_request: request.toString('pem'), name, platform };
  const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': webcrypto.randomUUID() };
  const answer = await fetch(`${url}/api/v1/enroll`, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
    redirect: 'error',
  });
  const told = await answer.json();
  if (answer.status !== 201) throw Object.assign(new Error(told.error.message), { code: told.error.code });
  const root = Buffer.from(told.root, 'base64');
  if (sha256(root) !== token.split('_')[1]) throw new Error('the root is not the one that the token names');
  mkdirSync(join(FOLDER, 'metadata'), { recursive: true });
  mkdirSync(join(FOLDER, 'targets'), { recursive: true });
  writeFileSync(join(FOLDER, 'metadata', 'root.json'), root);
  keep({ ...told, platform, key: keyPem });
  return { device_id: told.device_id, groups: told.groups, org: told.org };
}

async function newKeyAndRequest() {
  const keys = await webcrypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const keyPem = `-----BEGIN PRIVATE KEY-----\n${pkcs8.replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`;
  const request = await Pkcs10CertificateRequestGenerator.create(
    { name: 'CN=ignored', keys, signingAlgorithm: CURVE },
    webcrypto,
  );
  return { keyPem, request };
}

function keep(identity) {
  writeFileSync(KEPT, JSON.stringify(identity), { mode: 0o600 });
}

function kept() {
  return JSON.parse(readFileSync(KEPT, 'utf8'));
}

// --- The device port ---

function call(method, message) {
  connection ??= dial(kept());
  const deadline = Date.now() + DEADLINE_SECONDS * 1000;
  return new Promise((resolve, reject) => {
    connection[method](message, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

function dial({ device_endpoint, device_ca, key, certificate_chain }) {
  const shown = grpc.credentials.createSsl(Buffer.from(device_ca), Buffer.from(key), Buffer.from(certificate_chain));
  return new DeviceService(device_endpoint, shown, { 'grpc.enable_http_proxy': 0 });
}

function uploadLogs({ command_id, name, text }) {
  connection ??= dial(kept());
  const bundle = gzipSync(archive(name, Buffer.from(text)));
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + DEADLINE_SECONDS * 1000;
    const stream = connection.UploadLogs({ deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
    stream.write({ head: { command_id } });
    for (let start = 0; start < bundle.length; start += 60 * 1024) {
      stream.write({ chunk: bundle.subarray(start, start + 60 * 1024) });
    }
    stream.end({ end: { sha256: sha256(bundle), length: bundle.length, files: 1 } });
  });
}

// A tar archive of one file (POSIX ustar).
function archive(name, content) {
  const header = Buffer.alloc(512);
  const length = content.length.toString(8).padStart(11, '0');
  const fields = { 0: name, 100: '0000600', 108: '0000000', 116: '0000000', 124: length, 136: '00000000000' };
  for (const [place, text] of Object.entries({ ...fields, 148: '        0', 257: 'ustar\x0000' })) {
    header.write(text, Number(place));
  }
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512 + 1024)]);
}

async function renew() {
  const { keyPem, request } = await newKeyAndRequest();
  const answer = await call('RenewCertificate', { certificate_request: Buffer.from(request.rawData) });
  const { device_ca } = answer.device_ca ? answer : kept();
  keep({ ...kept(), key: keyPem, certificate_chain: answer.certificate_chain, device_ca });
  connection.close();
  connection = undefined;
  return { certificate: answer.certificate_chain };
}

// --- The repository, and what to do ---

async function poll({ groups, products, running = {} }) {
  const { metadata_url, targets_url } = kept();
  const updater = new Updater({
    metadataDir: join(FOLDER, 'metadata'),
    metadataBaseUrl: metadata_url,
    targetDir: join(FOLDER, 'targets'),
    targetBaseUrl: targets_url,
    config: { fetchRetries: 0, fetchRetry: 0 },
  });
  await updater.refresh();
  const chosen = {};
  for (const product of products) chosen[product] = await choose(updater, groups, product, running[product]);
  return chosen;
}

// Goes back when told so, else takes what the latest decision offers. This device has no clock of its own for windows
// and compares no versions: what asks for that, or forbids something, it leaves alone, which is always safe.
async function choose(updater, groups, product, runs) {
  const revoked = await document(updater, `revocations/${product}/all.json`, 'wavegate-revocations');
  const isRevoked = (digest) => (revoked?.revoked ?? []).some((one) => one.sha256 === digest);
  if (runs && isRevoked(runs.sha256)) return { go_back: 'revoked' };
  const brakes = {};
  for (const group of groups) {
    brakes[group] = await document(updater, `brakes/${product}/${group}.json`, 'wavegate-brake', { product, group });
  }
  const back = Object.values(brakes).find((one) => one?.state === 'roll_back' && one.rollout === runs?.rollout);
  if (back) return { go_back: back.reason };

  const decisions = [];
  for (const group of groups) {
    const found = await updater.getTargetInfo(`decisions/${product}/${group}.json`);
    const decision = found && (await read(updater, found));
    if (isForUs(decision, product, group)) decisions.push(decision);
  }
  const age = (one) => Date.parse(one.submitted_at);
  const latest = decisions.sort((one, other) => age(other) - age(one))[0];
  if (!latest) return { waits: 'no decision' };
  const brake = brakes[latest.group];
  if (brake && brake.rollout === latest.rollout && latest.wave <= brake.wave) return { waits: brake.reason };
  if (runs?.rollout === latest.rollout) return { waits: 'done' };
  if (latest.not_before && Date.now() < Date.parse(latest.not_before)) return { waits: 'not before' };
  if (latest.expires && Date.now() >= Date.parse(latest.expires)) return { waits: 'expired' };
  const artifact = latest.artifacts[kept().platform] ?? latest.artifacts.any;
  if (!artifact || isRevoked(artifact.sha256)) return { waits: 'no artifact' };
  const excluded = await document(updater, `brakes/${product}/exclusions`, 'wavegate-exclusions', { product });
  const more = latest.window || latest.spread || latest.requires?.length || latest.version_policy.from.length;
  if (more || excluded?.entries.length) return { waits: 'asks for more than this device knows' };
  const { rollout, version, budget } = latest;
  const attempt = Math.max(latest.attempt, latest.device_attempts[kept().device_id] ?? 0);
  const { path, sha256: digest } = artifact;
  const file = await fetchArtifact(updater, artifact);
  return { install: { rollout, attempt, version, path, sha256: digest, file, has_budget: budget !== undefined } };
}

function isForUs(decision, product, group) {
  return (
    decision?._type === 'wavegate-decision' &&
    [1, 2].includes(decision.format) &&
    decision.state === 'open' &&
    isOf(decision, { org: kept().org, product, group }) &&
    inside(decision.cohort)
  );
}

// Of what stops a product: undefined when it is not there, an error, and so no install, when it cannot be read.
async function document(updater, path, type, names = {}) {
  const info = await updater.getTargetInfo(path);
  if (info === undefined) return undefined;
  const found = await read(updater, info);
  if (found._type !== type || found.format !== 1) throw new Error(`${path} is of a kind that is not known here`);
  return isOf(found, names) ? found : undefined;
}

function isOf(found, names) {
  return Object.entries(names).every(([name, value]) => found[name] === value);
}

async function read(updater, info) {
  if (info.length > 256 * 1024) throw new Error(`${info.path} has ${info.length} bytes`);
  return JSON.parse(readFileSync(await cached(updater, info), 'utf8'));
}

async function fetchArtifact(updater, artifact) {
  const info = await updater.getTargetInfo(artifact.path);
  if (info === undefined || info.length !== artifact.length || info.hashes.sha256 !== artifact.sha256) {
    throw new Error(`${artifact.path} is not what the decision says`);
  }
  if (info.custom?.yanked != null) throw new Error(`${artifact.path} was withdrawn`);
  return cached(updater, info);
}

async function cached(updater, info) {
  const file = await updater.findCachedTarget(info);
  return file ?? updater.downloadTarget(info);
}

function inside({ salt, from, to }) {
  const hashed = createHash('sha256').update(Buffer.from(salt, 'hex')).update(kept().device_id, 'ascii').digest();
  const bucket = Number(hashed.readBigUInt64BE() % 10000n);
  return from <= bucket && bucket < to;
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}
