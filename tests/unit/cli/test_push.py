"""`publish push`: what is sent, what is answered, and what a CI job finds afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cli.github import write_summary
from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish
from tests.unit.cli.samples import ARTIFACT

MIB = 1024 * 1024


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "app.bin"
    path.write_bytes(b"hello")
    return path


@pytest.fixture
def sbom(tmp_path: Path) -> Path:
    path = tmp_path / "bom.json"
    path.write_bytes(b"{}")
    return path


def accept(server: ApiServerSimulator, *, length: int = 5) -> None:
    server.on(
        "PUT",
        "/api/v1/artifacts/content",
        Reply(201, {"upload_id": "upl_sbom", "sha256": "b" * 64, "length": 2}),
        Reply(201, {"upload_id": "upl_file", "sha256": "a" * 64, "length": length}),
    )
    server.on("POST", "/api/v1/artifacts", Reply(201, ARTIFACT))


def test_push_sends_the_bytes_then_asks_for_them_to_be_signed(
    publish: Publish, server: ApiServerSimulator, artifact: Path, sbom: Path
) -> None:
    accept(server)
    done = publish(
        "push", str(artifact), "--product", "app", "--version", "1.0.0", "--sbom", str(sbom), "--label", "team=edge",
        "--label", "a=b=c", "--note", "fixes", "--security", "--channel", "beta", "--platform", "arm64",
    )  # fmt: skip
    assert done.code == 0
    assert [seen.body for seen in server.asked("PUT", "/api/v1/artifacts/content")] == [b"{}", b"hello"]
    (post,) = server.asked("POST", "/api/v1/artifacts")
    assert post.json == {
        "upload_id": "upl_file",
        "product": "app",
        "version": "1.0.0",
        "platform": "arm64",
        "channel": "beta",
        "file_name": "app.bin",
        "sboms": ["upl_sbom"],
        "attestations": [],
        "notes": "fixes",
        "labels": {"team": "edge", "a": "b=c"},
        "security": True,
    }
    assert post.headers["authorization"] == "Bearer wgk_test"


def test_attestations_are_sent_and_named(
    publish: Publish, server: ApiServerSimulator, artifact: Path, sbom: Path
) -> None:
    accept(server)
    done = publish(
        "push", str(artifact), "--product", "app", "--version", "1.0.0", "--attest", str(sbom), "-o", "table"
    )
    assert [seen.body for seen in server.asked("PUT", "/api/v1/artifacts/content")] == [b"{}", b"hello"]
    (post,) = server.asked("POST", "/api/v1/artifacts")
    assert (post.json["upload_id"], post.json["sboms"], post.json["attestations"]) == ("upl_file", [], ["upl_sbom"])
    assert done.out.splitlines()[-1] == "attestation  app/1.0.0/any/app.bin.att.0.dsse (att_01), verified"


def test_push_answers_exactly_what_the_interfaces_promise(
    publish: Publish, server: ApiServerSimulator, artifact: Path, sbom: Path
) -> None:
    accept(server)
    done = publish("push", str(artifact), "--product", "app", "--version", "1.0.0", "--sbom", str(sbom), "-o", "json")
    assert done.json == {
        "id": "art_01",
        "target_path": "app/1.0.0/any/app.bin",
        "sha256": "a" * 64,
        "length": 5,
        "serial": 7,
        "sboms": [{"id": "sbo_01", "target_path": "app/1.0.0/any/app.bin.sbom.0.cyclonedx-json", "sha256": "b" * 64}],
    }
    assert done.err == ""


def test_push_answers_in_yaml_and_as_a_table(
    publish: Publish, server: ApiServerSimulator, artifact: Path, sbom: Path
) -> None:
    arguments = ("push", str(artifact), "--product", "app", "--version", "1.0.0", "--sbom", str(sbom), "-o")
    accept(server)
    assert yaml.safe_load(publish(*arguments, "yaml").out)["serial"] == 7
    accept(server)
    assert publish(*arguments, "table").out.splitlines()[0] == "published  app/1.0.0/any/app.bin"


def test_in_a_github_job_the_outputs_are_written_so_that_no_value_can_forge_another(
    publish: Publish,
    server: ApiServerSimulator,
    artifact: Path,
    sbom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = tmp_path / "outputs"
    outputs.write_text("earlier=1\n")
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    accept(server)
    publish("push", str(artifact), "--product", "app", "--version", "1.0.0", "--sbom", str(sbom))
    lines = outputs.read_text().splitlines()
    assert lines[0] == "earlier=1"
    names = [line.split("<<")[0] for line in lines[1::3]]
    assert names == ["id", "target_path", "sha256", "length", "serial", "sboms"]
    assert [line.split("<<")[1] for line in lines[1::3]] == lines[3::3]
    assert lines[2] == "art_01"
    assert lines[14] == "7"


def test_in_a_github_job_a_summary_says_what_was_published_and_no_value_is_markup(
    publish: Publish,
    server: ApiServerSimulator,
    artifact: Path,
    sbom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    accept(server)
    assert publish("push", str(artifact), "--product", "app", "--version", "1.0.0", "--sbom", str(sbom)).code == 0
    lines = summary.read_text().splitlines()
    assert lines[0] == "### Published app/1.0.0/any/app.bin"
    assert "| id | <code>art&#95;01</code> |" in lines
    write_summary("x <img src=//e> @team\n# y", [("a|b", "`c`|[d](http://e)")])
    text = summary.read_text().splitlines()
    assert text[-6] == "### x &#60;img src=//e&#62; &#64;team&#10;&#35; y"
    assert text[-2] == "| a&#124;b | <code>&#96;c&#96;&#124;&#91;d&#93;(http://e)</code> |"


def test_a_summary_that_cannot_be_written_does_not_fail_the_publish(
    publish: Publish,
    server: ApiServerSimulator,
    artifact: Path,
    sbom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "folder"))
    accept(server)
    done = publish("push", str(artifact), "--product", "app", "--version", "1.0.0", "--sbom", str(sbom))
    assert (done.code, "cannot be written" in done.err) == (0, True)


def test_other_bytes_under_the_same_name_are_a_conflict(
    publish: Publish, server: ApiServerSimulator, artifact: Path, sbom: Path
) -> None:
    accept(server)
    server.on("POST", "/api/v1/artifacts", refusal(409, "path_taken", "app/1.0.0/any/app.bin stands with other bytes"))
    done = publish("push", str(artifact), "--product", "app", "--version", "1.0.0", "--sbom", str(sbom))
    assert done.code == 5
    assert done.out == ""
    assert done.err.splitlines() == [
        "error: app/1.0.0/any/app.bin stands with other bytes",
        "hint: published bytes never change; raise the version",
        "request: req_1",
    ]


def test_bytes_that_arrive_with_another_digest_are_not_signed(
    publish: Publish, server: ApiServerSimulator, artifact: Path
) -> None:
    server.on("PUT", "/api/v1/artifacts/content", Reply(201, {"upload_id": "u", "sha256": "d" * 64, "length": 5}))
    done = publish("push", str(artifact), "--product", "app", "--version", "1", "--sha256", "A" * 64)
    assert done.code == 8
    assert server.asked("POST", "/api/v1/artifacts") == []


def test_bytes_that_do_not_all_arrive_are_not_signed(
    publish: Publish, server: ApiServerSimulator, artifact: Path
) -> None:
    server.on("PUT", "/api/v1/artifacts/content", Reply(201, {"upload_id": "u", "sha256": "a" * 64, "length": 4}))
    done = publish("push", str(artifact), "--product", "app", "--version", "1")
    assert done.code == 8
    assert server.asked("POST", "/api/v1/artifacts") == []


@pytest.mark.parametrize("arguments", [["--label", "x"], ["--label", "=x"], ["--label", "a=1", "--label", "a=2"]])
def test_a_label_must_be_one_key_and_one_value(
    publish: Publish, server: ApiServerSimulator, artifact: Path, arguments: list[str]
) -> None:
    assert publish("push", str(artifact), "--product", "app", "--version", "1", *arguments).code == 2
    assert server.requests == []


def test_a_large_file_is_streamed_in_little_memory(server: ApiServerSimulator, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(256 * MIB)
    server.on(
        "PUT", "/api/v1/artifacts/content", Reply(201, {"upload_id": "u", "sha256": "a" * 64, "length": 256 * MIB})
    )
    server.on("POST", "/api/v1/artifacts", Reply(201, ARTIFACT))
    # Not getrusage: its peak begins with that of the process that was forked, and this one has loaded much more.
    script = (
        "import sys; from cli.main import run; code = run(sys.argv[1:]);"
        # Not ru_maxrss: that remembers the process it was forked from, and the tests' own is large.
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM:'));"
        "print(code, peak, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "push", str(large), "--product", "app", "--version", "1", "--url", server.url],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "WAVEGATE_API_KEY": "wgk_test", "WAVEGATE_CONFIG_DIR": str(tmp_path / "config")},
    )
    code, peak_kib = done.stderr.split()
    assert code == "0"
    assert server.requests[0].length == 256 * MIB
    assert int(peak_kib) < 100 * 1024


def test_a_name_that_cannot_be_signed_is_told_before_anything_is_sent(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    capital = tmp_path / "App.bin"
    capital.write_bytes(b"hello")
    done = publish("push", str(capital), "--product", "app", "--version", "1")
    assert done.code == 2
    assert done.err.splitlines()[0].startswith("error: the file name is 'App.bin': expected")
    assert done.err.splitlines()[1] == "hint: --file-name gives it another name than its own"
    assert server.requests == []
