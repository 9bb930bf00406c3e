"""Reading JSON values into the room's values, every fault told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rollout.errors import InvalidPlan

Faults = list[tuple[str, str]]


class Reader:
    """Takes fields out of a mapping and gathers what is wrong with them, so that all faults are told at once."""

    def __init__(self, fields: object, where: str, faults: Faults | None = None) -> None:
        self._where = where
        self._faults: Faults = [] if faults is None else faults
        self._inner: list[Reader] = []
        self._left: dict[str, object] = {}
        if isinstance(fields, Mapping):
            self._left = {str(key): value for key, value in fields.items()}
        else:
            self.fault("", f"expected an object, found {type(fields).__name__}")

    def finish(self) -> None:
        self._refuse_rest()
        if self._faults:
            raise InvalidPlan(self._faults)

    def text(self, key: str) -> str:
        value = self._take(key)
        if isinstance(value, str):
            return value
        self.fault(key, f"expected text, found {type(value).__name__}")
        return ""

    def text_or_none(self, key: str) -> str | None:
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return None
        return self.text(key)

    def number(self, key: str) -> int:
        value = self._take(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self.fault(key, f"expected a whole number, found {type(value).__name__}")
        return 0

    def number_or_none(self, key: str) -> int | None:
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return None
        return self.number(key)

    def decimal(self, key: str) -> float:
        value = self._take(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        self.fault(key, f"expected a number, found {type(value).__name__}")
        return 0

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key)
        if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            return tuple(value)
        self.fault(key, "expected a list of texts")
        return ()

    def one_of(self, key: str, known: Sequence[str]) -> str:
        value = self._take(key)
        if isinstance(value, str) and value in known:
            return value
        self.fault(key, f"expected one of {', '.join(known)}, found {value!r}")
        return known[0]

    def mapping(self, key: str) -> Mapping[str, object]:
        value = self._take(key)
        if isinstance(value, Mapping):
            return value
        self.fault(key, f"expected an object, found {type(value).__name__}")
        return {}

    def has(self, key: str) -> bool:
        return key in self._left

    def flag(self, key: str) -> bool:
        value = self._take(key)
        if isinstance(value, bool):
            return value
        self.fault(key, f"expected true or false, found {type(value).__name__}")
        return False

    def time_or_none(self, key: str) -> datetime | None:
        value = self._take(key)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fault(key, f"expected an RFC 3339 time with its zone or null, found {value!r}")
            return None
        return moment.astimezone(UTC)

    def inner(self, key: str) -> Reader:
        return self._inside(key, self._take(key))

    def named(self, key: str) -> dict[str, Reader]:
        value = self._take(key)
        if not isinstance(value, Mapping):
            self.fault(key, f"expected an object, found {type(value).__name__}")
            return {}
        return {str(name): self._inside(f"{key}.{name}", one) for name, one in value.items()}

    def listed(self, key: str) -> list[Reader]:
        value = self._take(key)
        if not isinstance(value, list | tuple):
            self.fault(key, f"expected a list, found {type(value).__name__}")
            return []
        return [self._inside(f"{key}.{number}", one) for number, one in enumerate(value, start=1)]

    def _inside(self, key: str, value: object) -> Reader:
        reader = Reader(value, self._path(key), self._faults)
        self._inner.append(reader)
        return reader

    def _take(self, key: str) -> object:
        if key not in self._left:
            self.fault(key, "is missing")
        return self._left.pop(key, None)

    def _refuse_rest(self) -> None:
        for key in self._left:
            self.fault(key, "is not known here")
        for reader in self._inner:
            reader._refuse_rest()

    def fault(self, key: str, what: str) -> None:
        self._faults.append((self._path(key), what))

    def _path(self, key: str) -> str:
        return ".".join(part for part in (self._where, key) if part)
