"""Settings: what flag, environment and configuration file say, in this order, else the default."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows.cli.flags_options import OPTIONS, Option
from flows.cli.options import UsageError
from flows.flow.filter.errors import FilterError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_PREFIXES = ("FLOWS_", "HUBBLE_")
# Lists whose items never hold a comma or a blank; the JSON lists do.
_SEPARATED = ("field-mask", "tls-ca-cert-files")


@dataclass(frozen=True, slots=True)
class Settings:
    """given: texts by option. env: the process's environment. file: what the configuration file holds.

    options: those that there are.
    """

    given: Mapping[str, Sequence[str]]
    env: Mapping[str, str]
    file: Mapping[str, Any]
    file_name: str = ""
    options: Mapping[str, Option] = field(default_factory=lambda: OPTIONS)

    def get(self, name: str) -> Any:
        """The option's value. Raises UsageError that names where the bad text stands."""
        option = self.options[name]
        texts, source = self._texts(option)
        if not texts:
            return option.default
        try:
            values = [option.parse(text) for text in _split(option, texts)]
        except FilterError as error:
            raise UsageError(error.describe(source)) from None
        return tuple(values) if option.many else values[-1]

    def source(self, name: str) -> str:
        """Where the option's value comes from, for a message: `--server`, `HUBBLE_SERVER`, `file: server`."""
        return self._texts(self.options[name])[1]

    def _texts(self, option: Option) -> tuple[Sequence[str], str]:
        if option.name in self.given:
            return self.given[option.name], f"--{option.name}"
        if option.bound:
            for prefix in _PREFIXES:
                variable = prefix + option.name.upper().replace("-", "_")
                if self.env.get(variable):
                    return [self.env[variable]], variable
            if self.file.get(option.name) is not None:
                source = f"{self.file_name}: {option.name}"
                return _file_texts(self.file[option.name], source, many=option.many), source
        return (), f"--{option.name}"


def _split(option: Option, texts: Sequence[str]) -> list[str]:
    if option.name not in _SEPARATED:
        return list(texts)
    return [item for text in texts for item in re.split(r"[,\s]+", text) if item]


def _file_texts(value: Any, source: str, *, many: bool) -> list[str]:
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, str | int | float):
        return [str(value)]
    if many and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise UsageError(f"{source}: expected {'a list of texts' if many else 'one value'}")


def read_settings(
    given: Mapping[str, Sequence[str]],
    env: Mapping[str, str],
    read: Callable[[Path], str] = Path.read_text,
    options: Mapping[str, Option] = OPTIONS,
) -> Settings:
    """Read the file that --config, FLOWS_CONFIG or HUBBLE_CONFIG names, else the first usual one there is."""
    variables = (env.get(f"{prefix}CONFIG") for prefix in _PREFIXES)
    named = given["config"][-1] if given.get("config") else next(filter(None, variables), "")
    for path in [Path(named)] if named else _usual(env):
        try:
            text = read(path)
        except (OSError, UnicodeDecodeError) as error:
            if named:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                raise UsageError(f"--config {printable(named)}: cannot read it: {reason}") from None
            continue
        return Settings(given, env, _parse(text, path), str(path), options)
    return Settings(given, env, {}, options=options)


def _usual(env: Mapping[str, str]) -> Iterable[Path]:
    """Ours, then where Hubble keeps its own; not Hubble's ./config.yaml, which may be anybody's."""
    home = Path(env["HOME"]) if env.get("HOME") else None
    user = Path(env["XDG_CONFIG_HOME"]) if env.get("XDG_CONFIG_HOME") else home and home / ".config"
    if user:
        yield user / "flows" / "config.yaml"
        yield user / "hubble" / "config.yaml"
    if home:
        yield home / ".hubble" / "config.yaml"


def _parse(text: str, path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(printable(f"{path}: not YAML: {' '.join(str(error).split())}")) from None
    except RecursionError:
        raise UsageError(f"{path}: not YAML: nested too deeply") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a mapping of flag names to values, e.g. server: localhost:4245")
    return content
