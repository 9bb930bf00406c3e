"""The commands of `publish` as a table: what help and completion show without importing any of them."""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """Where a command lives (module and attribute) and its line in ``publish --help``."""

    module: str
    attribute: str
    summary: str


COMMANDS: Final[dict[str, Entry]] = {
    "init": Entry("cli.commands.init", "init", "Make a home: database, signed repository, keys, first admin."),
    "serve": Entry("cli.commands.serve", "serve", "Run the API, the device endpoint and the background jobs."),
    "doctor": Entry("cli.commands.doctor", "doctor", "Look at a server and its home, and say what to do."),
    "org": Entry("cli.commands.org", "org", "Make and list organisations on the server's machine."),
    "demo": Entry("cli.demo.main", "demo", "Show the whole journey with real devices on this machine."),
    "simulate": Entry("cli.commands.simulate", "simulate", "Run a fleet of simulated devices against a server."),
    "register": Entry(
        "cli.commands.register", "register", "Register the first organisation of a server that has none."
    ),
    "login": Entry("cli.commands.login", "login", "Log in as a person and remember it for 24 hours."),
    "logout": Entry("cli.commands.login", "logout", "End the stored login, here and at the server."),
    "whoami": Entry("cli.commands.login", "whoami", "Show who the server takes you for, and what you may do."),
    "profile": Entry("cli.commands.profile", "profile", "Name servers and persons, and choose among them."),
    "second-factor": Entry(
        "cli.commands.second_factor", "second_factor", "Ask for a code of an app at your login, too."
    ),
    "session": Entry("cli.commands.session", "session", "List and end your own logins."),
    "push": Entry("cli.commands.push", "push", "Publish one artifact, signed together with its SBOMs."),
    "push-batch": Entry("cli.commands.push_batch", "push_batch", "Publish many artifacts in one commit."),
    "artifact": Entry(
        "cli.commands.artifact", "artifact", "List, show, verify, amend, yank, withdraw, revoke artifacts."
    ),
    "sbom": Entry("cli.commands.sbom", "sbom", "Attach, list and fetch SBOMs."),
    "attestation": Entry("cli.commands.attestation", "attestation", "Attach, list and fetch attestations."),
    "rollout": Entry("cli.commands.rollout", "rollout", "Carry a release to groups of devices, wave by wave."),
    "group": Entry("cli.commands.group", "group", "Name sets of devices."),
    "device": Entry("cli.commands.device", "device", "Make, list, show, revoke and delete devices."),
    "device-ca": Entry("cli.commands.device_ca", "device_ca", "Show and rotate the CA of device certificates."),
    "enroll-token": Entry("cli.commands.enroll_token", "enroll_token", "Make the tokens that let devices in."),
    "metering": Entry("cli.commands.metering", "metering", "Show how many devices were active, night by night."),
    "audit": Entry("cli.commands.audit", "audit", "Read what happened, and who did it."),
    "key": Entry("cli.commands.key", "key", "Make, list, rotate and revoke API keys."),
    "trusted-publisher": Entry(
        "cli.commands.trusted_publisher", "trusted_publisher", "Let CI jobs publish by their own identity."
    ),
    "user": Entry("cli.commands.user", "user", "Invite people, make and disable accounts."),
    "webhook": Entry("cli.commands.webhook", "webhook", "Have events sent to programs of yours, signed."),
    "repo": Entry("cli.commands.repo", "repo", "Look after the signed repository."),
    "product": Entry("cli.commands.product", "product", "Let teams and approvers sign with their own keys."),
    "signer": Entry("cli.commands.signer", "signer", "Hold the online keys in a process of their own."),
    "completion": Entry("cli.commands.completion", "completion", "Print the completion script of a shell."),
}
