"""Parameters of a plugin as the user wrote them, checked; messages say what was expected and what came."""

from typing import Any


class Params:
    """Reads the fields of one object of the engine's configuration. Raises TypeError or ValueError for what cannot be."""

    def __init__(self, name: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise TypeError(f"expected {name} to be an object, got {values!r}")
        self._name = name
        self._values = values
        self._read: set[str] = set()

    def text(self, field: str) -> str | None:
        """Text of at least one character, or None where it is left out."""
        value = self._take(field)
        if value is not None and (not isinstance(value, str) or not value):
            raise TypeError(f"expected {self._name}.{field} to be text, got {value!r}")
        return value

    def address(self) -> str:
        address = self.text("address")
        if address is None:
            raise ValueError(f"expected {self._name}.address: the path of the daemon's socket, or http://host:port")
        return address

    def token(self) -> str | None:
        """From `token_file`: a token in the configuration itself would be shown by whatever shows that."""
        path = self.text("token_file")
        if path is None:
            return None
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            raise ValueError(f"cannot read {self._name}.token_file: {error.strerror}") from error

    def count(self, field: str, otherwise: int) -> int:
        value = self._take(field)
        if value is None:
            return otherwise
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"expected {self._name}.{field} to be a whole number of at least 1, got {value!r}")
        return value

    def amount(self, field: str, otherwise: float) -> float:
        value = self._take(field)
        if value is None:
            return otherwise
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise ValueError(f"expected {self._name}.{field} to be a number of at least 0, got {value!r}")
        return float(value)

    def refuse_others(self, known: tuple[str, ...] = ()) -> None:
        unknown = set(self._values) - self._read - set(known)
        if unknown:
            raise ValueError(f"{self._name} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(self._read | set(known)))}")

    def _take(self, field: str) -> Any:
        self._read.add(field)
        return self._values.get(field)
