"""The completion scripts in the shells themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import BIN
from tests.simulators.debian import unpacked

# What the shells' own completion would do with the candidates, said on stdout.
_BASH = """
eval "$(publish completion bash)"
complete -p publish
COMP_WORDS=(publish @WORDS@) COMP_CWORD=@COUNT@
_publish_completion publish
printf '%s\\n' "${COMPREPLY[@]}"
"""
_ZSH = """
compdef() { print -- "compdef $*" }
_describe() { print -rl -- ${(P)3} }
compadd() { print -rl -- ${(P)@[-1]} }
eval "$(publish completion zsh)"
words=(publish @WORDS@) CURRENT=$((@COUNT@ + 1))
_publish_completion
"""
_FISH = """
publish completion fish | source
complete -C "publish @WORDS@"
"""


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8", **more}


def shell(name: str, folder: Path) -> tuple[list[str], str, dict[str, str]]:
    """How to run a shell without anybody's settings, the script for it, and its environment."""
    if name == "bash":
        return ["bash", "--norc", "--noprofile", "-c"], _BASH, environ(folder)
    if name == "zsh":
        tree = unpacked("zsh", "zsh-common")
        (modules,) = tree.glob("usr/lib/*/zsh/*")
        return [str(tree / "bin" / "zsh"), "-f", "-c"], f"module_path=({modules})\n{_ZSH}", environ(folder)
    tree = unpacked("fish", "fish-common", "libpcre2-32-0")
    (libraries,) = {str(path.parent) for path in tree.glob("usr/lib/*/libpcre2-32.so.0")}
    return [str(tree / "usr/bin/fish"), "--no-config", "-c"], _FISH, environ(folder, LD_LIBRARY_PATH=libraries)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_their_verbs_and_options(name: str, tmp_path: Path) -> None:
    command, script, variables = shell(name, tmp_path)

    def complete(words: str) -> list[str]:
        said = script.replace("@WORDS@", words).replace("@COUNT@", str(words.count(" ") + 1))
        done = subprocess.run([*command, said], env=variables, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        lines = [line for line in done.stdout.splitlines() if not line.startswith(("complete", "compdef"))]
        return [line.replace("\t", ":").split(":")[0] for line in lines]

    assert complete("roll") == ["rollout"]
    assert {"abort", "advance", "approve"} <= set(complete("rollout a"))
    assert complete("push --prod") == ["--product"]
