"""The specification's own fixtures, real SBOMs and hostile ones, from the shared test data."""

from __future__ import annotations

from pathlib import Path

import pytest

from sbom.errors import InvalidSbom, SbomError, SbomTooLarge, UnsupportedSbom
from sbom.read import read_sbom

DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="module", autouse=True)
def _data_is_there() -> None:
    if DATA.is_dir():
        return
    # No server to be had, but third-party files that stay out of the project: without them these tests have no matter.
    pytest.skip("shared test data is missing: expected ../shared/data beside the project")


def _spec_fixtures(kind: str) -> list[Path]:
    return sorted((DATA / "spec-fixtures").glob(f"*/{kind}-*")) or [DATA / "spec-fixtures"]


@pytest.mark.parametrize("path", _spec_fixtures("valid"), ids=lambda path: path.name)
def test_a_valid_document_of_the_specification_is_read(path: Path) -> None:
    assert read_sbom(path).spec_version == path.parent.name


@pytest.mark.parametrize("path", _spec_fixtures("invalid"), ids=lambda path: path.name)
def test_an_invalid_document_of_the_specification_is_refused(path: Path) -> None:
    with pytest.raises((InvalidSbom, UnsupportedSbom)):
        read_sbom(path)


def test_the_specification_has_as_many_fixtures_as_it_had() -> None:
    assert (len(_spec_fixtures("valid")), len(_spec_fixtures("invalid"))) == (152, 98)


@pytest.mark.parametrize(
    ("name", "spec_version", "components", "warned_of"),
    [
        ("alpine-3.17-apk.cdx.xml", "1.4", 16, []),
        ("cern-lhc-vdm-editor.cdx.xml", "1.2", 43, []),
        ("dropwizard-1.3.15-maven.cdx.xml", "1.2", 167, []),
        ("dtrack-valid-1.7.cdx.json", "1.7", 3, []),
        ("dtrack-valid-1.7.cdx.xml", "1.7", 3, []),
        ("edge-dashboard-npm.cdx-1.5.json", "1.5", 864, []),
        ("fw-gateway-pypi.cdx-1.4.xml", "1.4", 25, []),
        ("fw-gateway-pypi.cdx-1.6.json", "1.6", 25, []),
        ("hbom-pcie-sata-board.cdx.json", "1.4", 6, ["components without a version"]),
        ("juice-shop-11.1.2-npm.cdx.json", "1.2", 840, []),
        ("laravel-7.12.0-composer.cdx-1.2.json", "1.2", 62, []),
        ("laravel-7.12.0-composer.cdx-1.3.xml", "1.3", 62, []),
        ("openssl-3.0.7-18.el9_2-rpm.cdx-1.6.json", "1.6", 37, []),
        ("proton-bridge-1.6.3-go.cdx.json", "1.2", 201, []),
        ("saasbom-apigateway.cdx.json", "1.4", 0, []),
        ("edge-dashboard-npm.spdx-2.3.json", "2.3", 864, ["created is"]),
        ("fw-gateway-pypi.spdx-2.3.json", "2.3", 25, []),
        ("fw-gateway-pypi.spdx-2.3.spdx", "2.3", 25, []),
        ("fw-gateway-pypi.spdx-3.0.1.json", "3.0.1", 25, []),
        ("ubi9-micro-9.4-amd64.spdx-2.3.json", "2.3", 21, []),
        ("with-bad-purls.cdx.xml", "1.4", 16, ["purls that cannot be parsed"]),
        ("bad-purl.cdx.json", "1.6", 3, ["purls that cannot be parsed", "components without a version"]),
        ("duplicate-bom-ref.cdx.json", "1.6", 2, ["bom-ref used more than once", "component without a version"]),
        (
            "cyclic-and-dangling-deps.cdx.json",
            "1.6",
            1,
            ["dependency reference to nothing", "component without a version"],
        ),
        ("nul-and-bidi.cdx.json", "1.6", 1, ["named with invisible characters"]),
        ("unique-items-quadratic.cdx.json", "1.6", 8000, []),
    ],
)
def test_a_real_or_odd_sbom_is_read(name: str, spec_version: str, components: int, warned_of: list[str]) -> None:
    facts = read_sbom(_find(name))
    assert (facts.spec_version, facts.components) == (spec_version, components)
    assert len(facts.warnings) == len(warned_of)
    assert all(words in warning for words, warning in zip(warned_of, facts.warnings, strict=True))


@pytest.mark.parametrize(
    ("name", "form", "subject"),
    [
        ("edge-dashboard-npm.spdx-2.3.json", "spdx-json", ("edge-dashboard", "2.3.0")),
        ("fw-gateway-pypi.spdx-2.3.json", "spdx-json", (None, None)),
        ("fw-gateway-pypi.spdx-2.3.spdx", "spdx-tag-value", (None, None)),
        ("fw-gateway-pypi.spdx-3.0.1.json", "spdx-3-json", ("fw", "2.3.0")),
        ("ubi9-micro-9.4-amd64.spdx-2.3.json", "spdx-json", ("ubi9-micro-container_amd64", "9.4-6.1716471860")),
    ],
)
def test_a_real_spdx_document_names_its_subject(name: str, form: str, subject: tuple[str | None, str | None]) -> None:
    facts = read_sbom(_find(name))
    assert (facts.format, (facts.subject_name, facts.subject_version)) == (form, subject)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("billion-laughs.cdx.xml", InvalidSbom, "document type declaration"),
        ("xxe-file.cdx.xml", InvalidSbom, "document type declaration"),
        ("deep-components-900.cdx.json", SbomTooLarge, "nested 1802 deep, at most 128"),
        ("spec-9.9.cdx.json", UnsupportedSbom, 'specVersion is "9.9"'),
        ("truncated.cdx.json", InvalidSbom, "not JSON"),
        ("with-duplicate-purls.cdx.xml", InvalidSbom, "Duplicate key-sequence"),
    ],
)
def test_a_hostile_document_is_refused(name: str, error: type[SbomError], said: str) -> None:
    with pytest.raises(error) as refusal:
        read_sbom(_find(name))
    assert said in str(refusal.value)


def test_every_shared_document_is_named_in_this_file() -> None:
    here = Path(__file__).read_text()
    shared = [*(DATA / "sboms").iterdir(), *(DATA / "sboms-hostile").iterdir()]
    assert [path.name for path in shared if f'"{path.name}"' not in here] == []


def _find(name: str) -> Path:
    return next(path for path in (DATA / "sboms" / name, DATA / "sboms-hostile" / name) if path.is_file())
