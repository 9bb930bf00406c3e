"""`publish completion`: the script a shell completes our commands with."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_VARIABLE = "_PUBLISH_COMPLETE"  # what click looks for in a command named publish
_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(tuple(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: eval "$(publish completion bash)"      in ~/.bashrc
    zsh:  eval "$(publish completion zsh)"       in ~/.zshrc
    fish: publish completion fish > ~/.config/fish/completions/publish.fish
    """
    script = _SHELLS[shell](ctx.find_root().command, {}, "publish", _VARIABLE)
    # Not .source(): for bash that first runs whatever `bash` is on the PATH to ask for its version.
    click.echo(script.source_template % script.source_vars())
