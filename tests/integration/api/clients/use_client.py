"""Uses the generated Python client as a program would; prints what came of it as one line of JSON.

usage: python use_client.py URL EMAIL PASSWORD
"""

from __future__ import annotations

import json
import sys

import wavegate_client as wavegate

url, email, password = sys.argv[1:]
configuration = wavegate.Configuration(host=url)
with wavegate.ApiClient(configuration) as client:
    accounts = wavegate.AccountsApi(client)
    login = accounts.create_login_token(wavegate.Login(email=email, password=password))
    configuration.access_token = login.token
    key = wavegate.APIKeysApi(client).create_api_key(wavegate.NewApiKey(name="python"), idempotency_key="python-1")
    again = wavegate.APIKeysApi(client).create_api_key(wavegate.NewApiKey(name="python"), idempotency_key="python-1")
    configuration.access_token = key.key
    told: dict[str, object] = {"role": login.user.role, "same_key": key.id == again.id, "shown_again": again.key}
    told["who"] = accounts.get_me().credential.kind

    artifacts, groups = wavegate.ArtifactsApi(client), wavegate.GroupsApi(client)
    group = groups.create_group(wavegate.NewGroup(name="python", description="made by a generated client"))
    told["group"] = [group.name, group.devices, groups.list_groups(total=True).total]
    changed = groups.patch_group(group.id, wavegate.GroupChange(description="changed"))
    told["description"] = changed.description

    upload = artifacts.upload_content(b"firmware of a generated client")
    body = wavegate.Publish(upload_id=upload.upload_id, product="python", version="1.0.0", file_name="fw.bin")
    published = artifacts.publish_artifact(body)
    told["published"] = [published.target_path, published.length, published.yanked]
    page = artifacts.list_artifacts(product="python", limit=1)
    told["listed"] = [[one.version for one in page.items], page.next_cursor]
    wave = wavegate.WavePlan(group="python", gate=wavegate.Gate(approvals=1))
    rollout = wavegate.RolloutsApi(client).create_rollout(
        wavegate.CreateRollout(product="python", version="1.0.0", waves=[wave])
    )
    told["rollout"] = [rollout.state, rollout.waves[0].approvals_needed]

    try:
        artifacts.get_artifact("art_01K9N0ZQ3V8M4S2T6W7X9Y0A1B")
    except wavegate.exceptions.NotFoundException as error:
        told["unknown"] = [error.status, error.data.error.code]
    try:
        wavegate.APIKeysApi(client).list_api_keys()
    except wavegate.exceptions.ForbiddenException as error:
        told["forbidden"] = [error.status, error.data.error.code, error.data.error.permission]
    try:
        groups.create_group(wavegate.NewGroup(name="python"))
    except wavegate.exceptions.ConflictException as error:
        told["conflict"] = [error.status, error.data.error.code]
    groups.delete_group(groups.create_group(wavegate.NewGroup(name="spare")).id)
sys.stdout.write(json.dumps(told))
