"""``agent.toml``: what people may set."""

from __future__ import annotations

import json
import platform
import re
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from agent.durable import write_durably
from agent.errors import BadConfig
from rollout.windows import InvalidWindow, Window, parse_window, window_faults

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")


def this_platform() -> str:
    """What this machine is in the words artifacts use: ``<system>-<machine>``, e.g. ``linux-x86_64``."""
    return f"{platform.system()}-{platform.machine()}".lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Settings of one agent. Spans are seconds, each with the reason for its default beside it.

    ``products`` restricts the agent to these; empty takes all that the server names for its groups. ``pins`` lets in
    only the version named of a product, as ``app=1.2``. ``maintenance_window`` is when installs may begin, as
    ``sat,sun 02:00 4h local``; empty is always. A rollout's own window must be open as well.
    ``log_paths`` are what a log bundle holds besides what the agent knows of itself: absolute patterns such as
    ``/var/log/app/*.log``, ``**`` for folders of any depth. ``reboot_command`` runs when a reboot is scheduled; without
    one the device says that it cannot. ``reboot_required_file`` is there when a reboot is due.
    """

    platform: str
    products: tuple[str, ...] = ()
    install_command: str = ""
    health_command: str = ""
    install_timeout_seconds: float = 1800.0  # a slow flash and a big image
    health_timeout_seconds: float = 60.0
    health_tries: int = 3  # services need a moment after a restart
    health_pause_seconds: float = 2.0
    interval_seconds: float = 60.0  # two small requests a minute
    download_seconds: float = 6 * 3600.0  # a big image over a poor line
    least_bytes_per_second: float = 1024.0  # below this somebody holds the device up
    download_bytes_per_second: float = 0.0  # no limit: most lines are the device's own
    keep_free_bytes: int = 16 * 1024 * 1024  # room for state, metadata and a log while a download fills the disk
    tls_ca: str = ""
    pins: tuple[str, ...] = ()
    maintenance_window: str = ""
    log_paths: tuple[str, ...] = ()
    log_bytes: int = 32 * 1024 * 1024  # a day of a busy device, in minutes over a poor line
    log_files: int = 200  # enough for a service's rotated logs
    log_days: float = 7.0  # what is asked about is rarely older
    reboot_command: str = ""
    reboot_required_file: str = "/run/reboot-required"  # where Debian's packages say so
    boot_id_file: str = "/proc/sys/kernel/random/boot_id"  # Linux's name for each run of itself

    def __post_init__(self) -> None:
        for product in (*self.products, self.platform):
            if _SLUG.fullmatch(product) is None:
                raise BadConfig(f"{product!r} is not 1 to 100 of a-z 0-9 . _ + - beginning with a letter or digit")
        for pin in self.pins:
            product, _, version = pin.partition("=")
            if _SLUG.fullmatch(product) is None or _SLUG.fullmatch(version) is None:
                raise BadConfig(f"{pin!r} is no pin; write PRODUCT=VERSION, for example app=1.2")
        if len({pin.partition("=")[0] for pin in self.pins}) < len(self.pins):
            raise BadConfig("a product is pinned twice; name one version of it")
        self._check_window()
        for pattern in self.log_paths:
            if not pattern.startswith("/") or not pattern.isprintable() or {"..", "."} & set(pattern.split("/")):
                raise BadConfig(f"{pattern!r} is no absolute pattern of a file, for example /var/log/app/*.log")
            if not pattern.strip("/") or pattern.endswith("/"):
                raise BadConfig(f"{pattern!r} names no file; write what is in the folder, for example /var/log/app/*")
        for name in ("install_command", "health_command", "tls_ca", "reboot_command"):
            if not getattr(self, name).isprintable():
                raise BadConfig(f"{name} holds a control character; put such a command into a script")
        for name, least in _LEAST.items():
            if not least <= getattr(self, name) <= MOST:
                raise BadConfig(f"{name} is {getattr(self, name)}, expected at least {least}, and no more than {MOST}")
        if 0 < self.download_bytes_per_second < 2 * self.least_bytes_per_second:
            # The agent would hold itself up, and take the mirror for slow.
            raise BadConfig(
                f"download_bytes_per_second is {self.download_bytes_per_second:g}, expected 0 for no limit, "
                f"or at least twice least_bytes_per_second, which is {self.least_bytes_per_second:g}"
            )

    @property
    def window(self) -> Window | None:
        """``maintenance_window`` as a value; None when there is none."""
        return parse_window(self.maintenance_window) if self.maintenance_window.strip() else None

    def pin_of(self, product: str) -> str | None:
        """The only version of a product that is let in, None for any."""
        return dict(pin.split("=", 1) for pin in self.pins).get(product)

    def _check_window(self) -> None:
        try:
            window = self.window
        except InvalidWindow as error:
            raise BadConfig(f"maintenance_window: {error}") from error
        faults = [] if window is None else window_faults(window, local_is_known=True)
        if faults:
            raise BadConfig(f"maintenance_window: {'; '.join(faults)}")


MOST: Final = 10**15  # of any number: neither endless nor no number at all, which TOML can say, too
_LEAST: Final = {
    "install_timeout_seconds": 1,
    "health_timeout_seconds": 1,
    "health_tries": 1,
    "health_pause_seconds": 0,
    "interval_seconds": 0.1,
    "download_seconds": 1,
    "least_bytes_per_second": 0,
    "download_bytes_per_second": 0,
    "keep_free_bytes": 0,
    "log_bytes": 0,
    "log_files": 0,
    "log_days": 0,
}


def write_config(path: Path, config: AgentConfig) -> None:
    """Write all settings, also those at their default, so that the file shows what there is to set."""
    lines = ["# Settings of wavegate-agent; see docs/devices.md. Read at start."]
    for name, value in asdict(config).items():
        shown = list(value) if isinstance(value, tuple) else value
        lines.append(f"{name} = {json.dumps(shown, ensure_ascii=False)}")
    write_durably(path, ("\n".join(lines) + "\n").encode())


def read_config(path: Path) -> AgentConfig:
    """Read it.

    Raises:
        BadConfig: Not there, no TOML, a setting that does not exist, or a value out of its bounds.
    """
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is no TOML: {error}") from error
    kinds: dict[str, Any] = {field.name: field.type for field in fields(AgentConfig)}
    values: dict[str, Any] = {}
    for name, value in stored.items():
        if name not in kinds:
            raise BadConfig(f"{path}: there is no setting {name!r}; there are {', '.join(sorted(kinds))}")
        values[name] = _value(path, name, str(kinds[name]), value)
    if "platform" not in values:
        raise BadConfig(f"{path}: 'platform' is missing, for example platform = {json.dumps(this_platform())}")
    return AgentConfig(**values)


def _value(path: Path, name: str, kind: str, value: object) -> object:
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind.startswith("tuple") and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    expected = {"str": "text", "int": "a whole number", "float": "a number"}.get(kind, "a list of texts")
    raise BadConfig(f"{path}: {name} is {value!r}, expected {expected}")
