"""The command line of `flows observe`: from arguments to ObserveOptions."""

from __future__ import annotations

import argparse
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from flows.cli.flags_filter import FILTER_FLAGS, FilterFlag
from flows.cli.flags_options import FALSE, OPTIONS, TRUE, Option
from flows.cli.flags_request import request_filters
from flows.cli.flags_result import observe_options
from flows.cli.flags_settings import read_settings
from flows.cli.options import ObserveOptions, UsageError
from flows.flow.filter.errors import nearest, printable, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.cli.flags_request import RequestFilters
    from flows.cli.flags_settings import Settings

_DESCRIPTION = """\
Show network flows: who talked to whom, from the kernels of the observed machines.
A flow is shown if it matches one value of each filter flag. --not inverts the filter that follows it."""

_EXAMPLES = """\
examples:
  flows observe                                  the last 20 flows
  flows observe -f --from web --to db            as they come, from web to db: service, workload or pod
  flows observe --to 10.0.0.0/8 --to-port 5432   to a network and port
  flows observe --from shop/ --to world          from namespace shop to the internet
  flows observe --pod kube-system/coredns --protocol udp --last 100
  flows observe --from 'app=web,tier in (front,back)' --verdict DROPPED --since 15m
  flows observe --to '*.example.com' --not --to-port 443
  flows observe -n shop -o json --since 2026-11-22T10:00Z --until 2026-11-22T10:05Z > flows.json
  flows observe --input-file flows.json --tcp-flags RST

Several values of one flag: any of them. Different flags: all of them. Most flags are Hubble's."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What one command understands: all filter flags, and its options."""

    command: str
    description: str
    examples: str
    options: Mapping[str, Option]

    @property
    def rows(self) -> tuple[FilterFlag | Option, ...]:
        """Its flags, in the order of --help."""
        return (*FILTER_FLAGS.values(), *self.options.values())


# Options whose values become parts of messages, as those of filters do.
_TEXTS = frozenset({"field-mask", "allowlist", "denylist"})
OBSERVE = Grammar("flows observe", _DESCRIPTION, _EXAMPLES, OPTIONS)


class FlagParser(argparse.ArgumentParser):
    """argparse without guessing: whole flag names only, and UsageError instead of exiting."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        spoiled = re.fullmatch(r"argument (?:-./)?(--[a-z0-9-]+): ignored explicit argument (.*)", message)
        if spoiled and spoiled[1].removeprefix("--") in OPTIONS:
            raise UsageError(f"{spoiled[1]} {printable(spoiled[2])}: expected no value, or =true or =false")
        if spoiled:
            raise UsageError(f"{spoiled[1]} {printable(spoiled[2])}: expected no value")
        raise UsageError(printable(message))


class _Record(argparse.Action):
    """Keeps flags in their order, for --not speaks of what follows it."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:  # noqa: ARG002
        namespace.flags = [*namespace.flags, (self.dest, values if self.const is None else self.const)]


def observe_parser() -> argparse.ArgumentParser:
    """The parser whose help is `flows observe --help`; parse_observe gives its result a meaning."""
    return flag_parser(OBSERVE)


def flag_parser(grammar: Grammar) -> argparse.ArgumentParser:
    """The parser of a command, and its help; split_flags gives its result a meaning."""
    usage = f"{grammar.command} [flags]"
    parser = FlagParser(prog=grammar.command, usage=usage, description=grammar.description, epilog=grammar.examples)
    parser.set_defaults(flags=[])
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(row.group for row in grammar.rows)}
    for row in FILTER_FLAGS.values():
        _declare(groups[row.group], row.name, row.short, row.help, row.constant, row.metavar)
        if row.constant is not None:
            texts = TRUE if row.constant in {"", "true"} else (row.constant,)
            _declare_spellings(parser, row.name, dict.fromkeys(texts, row.constant))
    for option in grammar.options.values():
        constant = "true" if option.switch else None
        _declare(groups[option.group], option.name, option.short, option.help, constant, option.metavar)
        if option.switch:
            _declare_spellings(parser, option.name, {text: text for text in (*TRUE, *FALSE)})
    return parser


def _declare(group: Any, name: str, short: str, about: str, constant: str | None, metavar: str) -> None:
    spellings = [*([f"-{short}"] if short else []), f"--{name}"]
    value = {"metavar": metavar} if constant is None else {"nargs": 0, "const": constant}
    group.add_argument(
        *spellings,
        dest=name,
        action=_Record,
        help=about.replace("%", "%%"),
        default=argparse.SUPPRESS,
        **value,
    )


def _declare_spellings(parser: argparse.ArgumentParser, name: str, values: Mapping[str, str]) -> None:
    """`--name=true` and the like, which Go's flags accept of a switch. values: by what is written."""
    for text, value in values.items():
        parser.add_argument(
            f"--{name}={text}",
            dest=name,
            action=_Record,
            nargs=0,
            const=value,
            help=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
        )


def parse_observe(arguments: Sequence[str], env: Mapping[str, str] | None = None, now_ns: int | None = None) -> ObserveOptions:
    """arguments are what follows `flows observe`. Raises UsageError; `--help` prints, then SystemExit(0).

    env is the environment (default: the process's), now_ns the time that durations count back from.
    """
    words = list(arguments)
    if words[:1] == ["flows"]:  # `observe flows` is Hubble's longer name of the same command
        del words[0]
    settings, filters = split_flags(OBSERVE, words, os.environ if env is None else env)
    return observe_options(settings, filters, time.time_ns() if now_ns is None else now_ns)


def split_flags(grammar: Grammar, words: Sequence[str], env: Mapping[str, str]) -> tuple[Settings, RequestFilters]:
    """What the words of a command line set, and the filters that they ask for. Raises UsageError; `--help` exits."""
    parsed, extra = flag_parser(grammar).parse_known_args(_with_values_joined(grammar, words))
    if extra:
        raise UsageError(_unknown(grammar, extra[0]))
    given: dict[str, list[str]] = {}
    for name, text in parsed.flags:
        if name not in grammar.options or name in _TEXTS:
            _check_text(name, text)
        if name in grammar.options:
            given.setdefault(name, []).append(text)
    settings = read_settings(given, env, options={**OPTIONS, **grammar.options})
    return settings, request_filters((name, text) for name, text in parsed.flags if name in FILTER_FLAGS)


def _check_text(name: str, text: str) -> None:
    """Raises UsageError for bytes that are no UTF-8, which messages cannot hold; paths of files may be such."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"--{name} {quote(text)}: expected UTF-8 text") from None


def _with_values_joined(grammar: Grammar, words: Sequence[str]) -> list[str]:
    """`--flag value` as `--flag=value`, so that a value may be empty or begin with a hyphen, as in Go."""
    valued = {f"--{row.name}": row for row in grammar.rows if _takes_value(row)}
    valued |= {f"-{row.short}": row for row in grammar.rows if row.short and _takes_value(row)}
    switches = {row.short: row for row in grammar.rows if row.short and not _takes_value(row)}
    joined, rest = [], iter(words)
    for word in rest:
        if word not in valued:
            switch = switches.get(word[1:2]) if word[:1] == "-" and word[2:3] == "=" else None
            joined.append(f"--{switch.name}={word[3:]}" if switch else word)  # argparse takes what follows for more switches
            continue
        value = next(rest, None)
        if value is None:
            raise UsageError(f"{word}: a value must follow: {valued[word].metavar}")
        joined.append(f"--{valued[word].name}={value}")
    return joined


def _takes_value(row: FilterFlag | Option) -> bool:
    return row.constant is None if isinstance(row, FilterFlag) else not row.switch


def _unknown(grammar: Grammar, word: str) -> str:
    if not word.startswith("-"):
        plain = printable(word)
        cure = f"did you mean --from {plain} or --to {plain}?"
        return f"unexpected argument {quote(word)}: filters are flags; {cure}"
    flag = word.partition("=")[0]
    close = nearest(flag, [f"--{name}" for name in (*FILTER_FLAGS, *grammar.options, "help")])
    cure = f"did you mean {close}?" if close else f"{grammar.command} --help lists all"
    return f"unknown flag: {printable(flag)}; {cure}"
