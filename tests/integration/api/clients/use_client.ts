// Uses the generated TypeScript client as a program would; prints what came of it as one line of JSON.
// usage: node use_client.js URL EMAIL PASSWORD

import * as wavegate from './index';

declare const process: { argv: string[]; exit(code: number): never };

async function main(basePath: string, email: string, password: string): Promise<void> {
  const anyone = new wavegate.Configuration({ basePath });
  const login = await new wavegate.AccountsApi(anyone).createLoginToken({ login: { email, password } });
  const person = new wavegate.Configuration({ basePath, accessToken: login.token });
  const keys = new wavegate.APIKeysApi(person);
  const asked = { newApiKey: { name: 'typescript' }, idempotencyKey: 'typescript-1' };
  const key = await keys.createApiKey(asked);
  const again = await keys.createApiKey(asked);
  const program = new wavegate.Configuration({ basePath, accessToken: key.key ?? undefined });
  const told: Record<string, unknown> = {
    role: login.user.role,
    same_key: key.id === again.id,
    shown_again: again.key,
    who: (await new wavegate.AccountsApi(program).getMe()).credential.kind,
  };

  const artifacts = new wavegate.ArtifactsApi(program);
  const groups = new wavegate.GroupsApi(program);
  const group = await groups.createGroup({ newGroup: { name: 'typescript', description: 'by a generated client' } });
  told.group = [group.name, group.devices, (await groups.listGroups({ total: true })).total];
  const changed = await groups.patchGroup({ id: group.id, groupChange: { description: 'changed' } });
  told.description = changed.description;

  const upload = await artifacts.uploadContent({ body: new Blob(['firmware of a generated client']) });
  const published = await artifacts.publishArtifact({
    publish: { uploadId: upload.uploadId, product: 'typescript', version: '1.0.0', fileName: 'fw.bin' },
  });
  told.published = [published.targetPath, published.length, published.yanked];
  const page = await artifacts.listArtifacts({ product: 'typescript', limit: 1 });
  told.listed = [page.items.map((one) => one.version), page.nextCursor];
  const rollout = await new wavegate.RolloutsApi(program).createRollout({
    createRollout: { product: 'typescript', version: '1.0.0', waves: [{ group: 'typescript', gate: { approvals: 1 } }] },
  });
  told.rollout = [rollout.state, rollout.waves[0].approvalsNeeded];

  const refused = async (call: Promise<unknown>): Promise<unknown[]> => {
    try {
      await call;
    } catch (error) {
      if (error instanceof wavegate.ResponseError) {
        const { error: found } = wavegate.ModelErrorFromJSON(await error.response.json());
        return [error.response.status, found.code, ...(found.permission ? [found.permission] : [])];
      }
      throw error;
    }
    return ['not refused'];
  };
  told.unknown = await refused(artifacts.getArtifact({ id: 'art_01K9N0ZQ3V8M4S2T6W7X9Y0A1B' }));
  told.forbidden = await refused(new wavegate.APIKeysApi(program).listApiKeys());
  told.conflict = await refused(groups.createGroup({ newGroup: { name: 'typescript' } }));
  await groups.deleteGroup({ id: (await groups.createGroup({ newGroup: { name: 'spare' } })).id });
  console.log(JSON.stringify(told));
}

main(process.argv[2], process.argv[3], process.argv[4]).catch((error) => {
  console.error(error);
  process.exit(1);
});
