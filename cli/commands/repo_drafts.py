"""`publish repo draft|sign|rotate|key`: changes that need the holders of offline keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cli.drafts import drafts_of
from cli.invocation import Invocation
from cli.options import Command, organisation_option, output_option, server_options
from cli.text import fields, moment, table

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def _home(command: Command) -> Command:
    option = click.option(
        "--home",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Work on this home itself, without a server; the ceremony begins so.",
    )
    return option(organisation_option(command))


key_options = click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    metavar="URI",
    help="A private key of yours: its .pem or URI; repeat.",
)
passphrase_option = click.option(
    "--passphrase-file", type=FILE, help="Opens the key. [default: the file passphrase beside it]"
)


@click.group()
def draft() -> None:
    """Changes of root, targets and claimed products that wait for the signatures of their keys' holders."""


@draft.command("new")
@click.argument("role")
@click.option("--add-key", "add", multiple=True, metavar="ROLE=FILE", help="Give root or targets another key; repeat.")
@click.option("--remove-key", "remove", multiple=True, metavar="ROLE=KEYID", help="Take a key away from it; repeat.")
@click.option("--threshold", "thresholds", multiple=True, metavar="ROLE=N", help="How many must sign; repeat.")
@click.option("--deadline-days", type=click.IntRange(1, 365), help="Take signatures for so long. [default: 30]")
@server_options
def new(
    invocation: Invocation,
    role: str,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    thresholds: tuple[str, ...],
    deadline_days: int | None,
) -> None:
    """Draft a new version of ROLE: root, targets or product-NAME. Without options it begins its life of a year anew.

    The keys of targets stand in root: `publish repo draft new root --add-key targets=ann.pub`.
    """
    from cli.errors import UsageFault
    from keys.holders import public_key

    try:
        counts = {name: int(number) for name, number in _by_role("--threshold", thresholds)}
    except ValueError as error:
        raise UsageFault(f"--threshold takes ROLE=N: {error}") from error
    body: dict[str, Any] = {"role": role, "thresholds": counts, "add": {}, "remove": {}}
    for name, file in _by_role("--add-key", add):
        body["add"].setdefault(name, []).append(public_key(file))
    for name, keyid in _by_role("--remove-key", remove):
        body["remove"].setdefault(name, []).append(keyid)
    if deadline_days is not None:
        body["deadline_days"] = deadline_days
    told = invocation.client().post("/repository/drafts", body)
    invocation.emit(told, lambda: shown(told))


@draft.command("list")
@_home
@server_options
def list_(invocation: Invocation, home: Path | None) -> None:
    """List what waits for signatures."""
    with drafts_of(invocation, home) as drafts:
        items = drafts.all()
    rows = [(one["id"], one["title"], ", ".join(missing(one)) or "nothing", moment(one["deadline"])) for one in items]
    invocation.emit(
        {"items": items},
        lambda: table(("id", "title", "missing", "until"), rows, empty="nothing waits for a signature"),
    )


@draft.command()
@click.argument("draft_id", metavar="DRAFT")
@_home
@server_options
def show(invocation: Invocation, draft_id: str, home: Path | None) -> None:
    """Show what a draft changes, whose signatures it needs and whose it has."""
    with drafts_of(invocation, home) as drafts:
        told = drafts.get(draft_id)
    invocation.emit(told, lambda: shown(told))


@draft.command()
@click.argument("draft_id", metavar="DRAFT")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file. [default: DRAFT.json]")
@_home
@server_options
def export(invocation: Invocation, draft_id: str, out: Path | None, home: Path | None) -> None:
    """Write a draft to a file, to be carried to a machine without a network and signed there."""
    with drafts_of(invocation, home) as drafts:
        told = drafts.get(draft_id)
    path = Path(f"{draft_id}.json") if out is None else out
    path.write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    invocation.emit({"draft": draft_id, "file": str(path)}, f"wrote {path}; sign it with --offline-file {path}")


@draft.command()
@click.argument("file", type=FILE)
@_home
@server_options
def upload(invocation: Invocation, file: Path, home: Path | None) -> None:
    """Hand in a signature file that was made without a network."""
    from cli.signing import read_signatures

    draft_id, found = read_signatures(file)
    with drafts_of(invocation, home) as drafts:
        told = drafts.sign(draft_id, found)
    invocation.emit(told, lambda: _signed(told))


@draft.command()
@click.argument("draft_id", metavar="DRAFT")
@_home
@server_options
def rebase(invocation: Invocation, draft_id: str, home: Path | None) -> None:
    """Make a draft anew from the repository as it is. Its signatures are dropped: look again, and sign again."""
    with drafts_of(invocation, home) as drafts:
        told = drafts.rebase(draft_id)
    invocation.emit(told, lambda: shown(told))


@draft.command()
@click.argument("draft_id", metavar="DRAFT")
@_home
@server_options
def drop(invocation: Invocation, draft_id: str, home: Path | None) -> None:
    """Forget a draft and its signatures."""
    with drafts_of(invocation, home) as drafts:
        drafts.drop(draft_id)
    invocation.emit({"dropped": draft_id}, f"dropped {draft_id}")


@click.command()
@click.argument("draft_id", metavar="[DRAFT]", required=False)
@key_options
@passphrase_option
@click.option("--offline-file", type=FILE, help="Sign this exported draft; uses no network and writes --out.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the signatures here, upload nothing."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_home
@server_options
def sign(
    invocation: Invocation,
    draft_id: str | None,
    keys: tuple[str, ...],
    passphrase_file: Path | None,
    offline_file: Path | None,
    out: Path | None,
    yes: bool,
    home: Path | None,
) -> None:
    """Sign DRAFT with keys of yours. They are used on this machine; only the signatures go to the server.

    What it changes is worked out here from the bytes to sign, told, and at a terminal you are asked.
    """
    from cli.errors import UsageFault
    from cli.signing import read_draft, signatures, write_signatures

    if (draft_id is None) == (offline_file is None):
        raise UsageFault("name a DRAFT of the server, or an exported one by --offline-file")
    if offline_file is not None:
        told = read_draft(offline_file)
        _look(told, ask=not yes)
        found = signatures(told, keys, passphrase(passphrase_file))
        path = Path(f"{told['id']}.signatures.json") if out is None else out
        write_signatures(path, told["id"], found)
        answer = {"draft": told["id"], "file": str(path), "roles": sorted(found)}
        invocation.emit(answer, f"wrote {path}; hand it in with `publish repo draft upload {path}`")
        return
    with drafts_of(invocation, home) as drafts:
        told = drafts.get(str(draft_id))
        _look(told, ask=not yes)
        found = signatures(told, keys, passphrase(passphrase_file))
        if out is not None:
            write_signatures(out, told["id"], found)
            invocation.emit({"draft": told["id"], "file": str(out), "roles": sorted(found)}, f"wrote {out}")
            return
        answer = drafts.sign(told["id"], found)
    invocation.emit(answer, lambda: _signed(answer))


@click.command()
@click.argument("roles", nargs=-1)
@click.option("--compromised", is_flag=True, help="Somebody else has the key: no overlap, it signs nothing any more.")
@click.option(
    "--key",
    "named",
    multiple=True,
    metavar="ROLE=URI",
    help="The next key, made in a store of its own, such as timestamp=hsm:3?label=online; repeat.",
)
@click.option("--past", type=click.IntRange(min=0), default=0, help="Jump past this version, the highest anybody saw.")
@click.option("--finish", is_flag=True, help="End the overlap of an earlier rotation: the old keys sign no more.")
@server_options
def rotate(
    invocation: Invocation,
    roles: tuple[str, ...],
    compromised: bool,
    named: tuple[str, ...],
    past: int,
    finish: bool,
) -> None:
    """Give online ROLES new keys: timestamp, snapshot, releases, decisions.

    The keys are made where the old ones are, in files of the server or in its signer process; in a PKCS#11 token or a
    key service you make them and name them with --key. The server drafts the change; holders of root (timestamp,
    snapshot) or targets (releases, decisions) sign it. The keys of root and targets themselves change by
    `publish repo draft new root`.
    """
    from cli.errors import UsageFault

    if finish == bool(roles) or (finish and named):
        raise UsageFault("name roles to rotate, or give --finish alone")
    if finish:
        told = invocation.client().post("/repository/rotations/end", {})
        gone = ", ".join(told["retired"]) or "nothing was left over"
        invocation.emit(told, f"serial {told['serial']}, out of the keyring: {gone}")
        return
    body: dict[str, Any] = {"roles": list(roles), "compromised": compromised, "past": past}
    if named:
        body["keys"] = dict(_by_role("--key", named))
    told = invocation.client().post("/repository/rotations", body)
    invocation.emit(told, lambda: "\n\n".join(shown(one) for one in told["items"]))


@click.group()
def key() -> None:
    """Keys of people, kept on their own machines."""


@key.command("new")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the key.")
@click.option("--name", default="key", show_default=True, metavar="NAME", help="Of the files.")
@passphrase_option
@output_option
def new_key(invocation: Invocation, out: Path, name: str, passphrase_file: Path | None) -> None:
    """Make a key: NAME.pem encrypted, NAME.pub to hand out, and the file passphrase unless you give one."""
    from keys.holders import new_holder_key

    public_file, made = new_holder_key(out, name, passphrase=passphrase(passphrase_file))
    answer = {"keyid": made.keyid, "public": str(public_file), "uri": f"sealed:{(out / f'{name}.pem').absolute()}"}
    invocation.emit(
        answer, lambda: fields([("keyid", made.keyid), ("hand out", public_file), ("sign with", answer["uri"])])
    )


def passphrase(file: Path | None) -> str | None:
    """What the file holds, without the line's end."""
    return None if file is None else file.read_text("utf-8").rstrip("\r\n")


def missing(draft: dict[str, Any]) -> list[str]:
    """What a draft waits for, e.g. ``root: 1 more (root 2)``."""
    return [
        f"{part['role']}: {one['threshold'] - len(one['signed'])} more ({one['by']})"
        for part in draft["parts"]
        for one in part["requirements"]
        if len(one["signed"]) < one["threshold"]
    ]


def shown(draft: dict[str, Any]) -> str:
    """A draft for a person's eyes."""
    head = fields(
        [
            ("draft", draft["id"]),
            ("title", draft["title"]),
            ("by", draft["created_by"]["name"]),
            ("until", moment(draft["deadline"])),
            ("missing", "; ".join(missing(draft)) or "nothing"),
        ]
    )
    needed = [
        (part["role"], one["by"], keyid, "signed" if keyid in one["signed"] else "", f"{one['threshold']} needed")
        for part in draft["parts"]
        for one in part["requirements"]
        for keyid in one["keyids"]
    ]
    lines = [line for part in draft["parts"] for line in part["difference"]]
    keys = table(("role", "says", "key", "state", "threshold"), needed)
    return "\n\n".join([head, "\n".join(lines), keys])


def _signed(answer: dict[str, Any]) -> str:
    if answer["serial"] is not None:
        return f"signed; nothing is missing any more: in force with serial {answer['serial']}"
    return f"signed; still missing: {'; '.join(missing(answer['draft']))}"


def _look(draft: dict[str, Any], *, ask: bool) -> None:
    import sys

    from cli.errors import NotApproved
    from cli.signing import differences
    from cli.text import visible

    for line in differences(draft):
        click.echo(visible(line), err=True)
    if ask and sys.stdin.isatty() and not click.confirm("Sign this?", err=True):
        raise NotApproved("nothing was signed")


def _by_role(option: str, values: tuple[str, ...]) -> list[tuple[str, str]]:
    from cli.errors import UsageFault

    found = []
    for value in values:
        role, equals, rest = value.partition("=")
        if not equals or not rest:
            raise UsageFault(
                f"{option} takes ROLE=…, found {value!r}", hint="ROLE is the name of the key's role, such as root"
            )
        found.append((role, rest))
    return found
