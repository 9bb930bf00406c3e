"""Something real to publish: installed Python distributions as one tar file, with the SBOM of exactly those."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from cli.demo.product import DemoFailed

PRODUCT: Final = "gateway"
SETTINGS_MEMBER: Final = "release.json"  # the first member, so that a device need not read 50 MB to find it
_EXTRA: Final = re.compile(r";.*\bextra\s*==")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Release:
    """One version of the demo's product, as files ready to publish; ``length`` is in bytes."""

    version: str
    artifact: Path
    sbom: Path
    length: int
    components: int


def build_release(
    folder: Path, version: str, roots: tuple[str, ...], *, needs_memory_mib: int, at_least_bytes: int = 0
) -> Release:
    """Pack the distributions in ``roots`` and everything they need, as installed beside us, into ``folder``.

    The same installation always gives the same bytes: members are sorted and carry no owner and no time.

    Args:
        roots: Names of distributions. Where ``at_least_bytes`` is given, roots after the first are taken one by one
            until the file is that large.
        needs_memory_mib: Written into the release; a device with less fails its health check.

    Raises:
        DemoFailed: Nothing named in ``roots`` is installed, or all of them together are too small.
    """
    chosen: dict[str, Distribution] = {}
    size = 0
    for root in roots:
        if at_least_bytes and size > at_least_bytes:
            break
        chosen |= _closure(root)
        size = sum(path.stat().st_size for one in chosen.values() for _, path in _files(one))
    if size <= at_least_bytes:
        raise DemoFailed(
            f"the installed {', '.join(roots)} hold {size} bytes, the demo needs more than {at_least_bytes}; "
            "install Wavegate with its dependencies (make setup)"
        )
    artifact = folder / f"{PRODUCT}-{version}.tar"
    _pack(artifact, version, chosen, needs_memory_mib)
    sbom = folder / f"{PRODUCT}-{version}.cdx.json"
    sbom.write_text(_bill_of_materials(version, chosen), encoding="utf-8")
    return Release(version, artifact, sbom, artifact.stat().st_size, len(chosen))


def _closure(root: str) -> dict[str, Distribution]:
    """A distribution and everything it needs that is installed, by normalised name."""
    found: dict[str, Distribution] = {}
    names = [root]
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # needed on another platform or Python only
        names += _needs(found[name])
    return found


def _needs(one: Distribution) -> list[str]:
    lines = [line for line in one.requires or () if not _EXTRA.search(line)]
    return [match[0] for line in lines if (match := _NAME.match(line))]


def _files(one: Distribution) -> Iterator[tuple[str, Path]]:
    """A distribution's files as name in the archive and place on disk, without what Python or pip made on the spot."""
    for file in one.files or ():
        made_here = file.suffix == ".pyc" or file.name in ("direct_url.json", "RECORD", "INSTALLER", "REQUESTED")
        if made_here or ".." in file.parts:
            continue
        path = Path(str(file.locate()))
        if path.is_file():
            yield f"site-packages/{file.as_posix()}", path


def _pack(artifact: Path, version: str, chosen: dict[str, Distribution], needs_memory_mib: int) -> None:
    settings = {"product": PRODUCT, "version": version, "needs_memory_mib": needs_memory_mib}
    with tarfile.open(artifact, "w", format=tarfile.PAX_FORMAT) as archive:
        text = json.dumps(settings, sort_keys=True).encode()
        first = tarfile.TarInfo(SETTINGS_MEMBER)
        first.size = len(text)
        archive.addfile(first, io.BytesIO(text))
        for name, path in sorted({file for one in chosen.values() for file in _files(one)}):
            member = tarfile.TarInfo(name)
            member.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(member, content)


def _bill_of_materials(version: str, chosen: dict[str, Distribution]) -> str:
    # The library takes a while to import and only the demo needs it.
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from packageurl import PackageURL

    product = Component(name=PRODUCT, version=version, type=ComponentType.APPLICATION, bom_ref=f"{PRODUCT}@{version}")
    components = {}
    for name, one in chosen.items():
        purl = PackageURL("pypi", name=name, version=one.version)
        components[name] = Component(
            name=name,
            version=one.version,
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=str(purl),
            description=one.metadata["Summary"],
        )
    bom = Bom(components=components.values(), serial_number=uuid5(NAMESPACE_URL, f"urn:wavegate:demo:{version}"))
    bom.metadata.component = product
    bom.metadata.manufacturer = OrganizationalEntity(name="Wavegate demo")
    bom.register_dependency(product, components.values())
    for name, one in chosen.items():
        normal = {re.sub(r"[-_.]+", "-", need).lower() for need in _needs(one)}
        bom.register_dependency(components[name], [components[need] for need in normal & components.keys()])
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
