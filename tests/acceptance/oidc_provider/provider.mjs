// A stock oidc-provider on a free port of loopback, with its own pages for logging in.
// usage: node provider.mjs CONFIGURATION, which is JSON: {"client": {…}, "people": {login: claims}}
// Prints its issuer as one line, and runs until its stdin ends.

import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const { client, people } = JSON.parse(process.argv[2]);
let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [client],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
    cookies: { keys: ['of a test'] },
    features: { deviceFlow: { enabled: true } },
    findAccount: (_, login) => ({ accountId: login, claims: () => ({ sub: login, ...people[login] }) }),
    pkce: { required: () => true },
  });
  answer = provider.callback();
  console.log(issuer);
});
process.stdin.on('end', () => process.exit(0)).resume();
