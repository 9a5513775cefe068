"""The command line of an answer (`flows dns`, `flows http`, ...): all filter flags of `flows observe`, and how rows are shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from flows.cli.flags import Grammar, split_flags
from flows.cli.flags_options import OPTIONS, Option
from flows.cli.flags_result import all_filters, bounds, exit_code, numbers
from flows.cli.flags_server import server_options
from flows.cli.options import ObserveOptions, OutputOptions, UsageError
from flows.flow.answers.table import SortError, check_sort
from flows.flow.filter.errors import FilterError, nearest, one_of
from flows.flow.filter.selection import ALL, Selection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.cli.flags_settings import Settings
    from flows.flow.answers.table import Column

# What is looked at if nothing says how much: long enough to see what is wrong now, short enough for a busy cluster.
DEFAULT_SINCE_NS = 5 * 60 * 1_000_000_000
# Flags of `flows observe` that are about how a single flow is shown.
_OF_FLOWS = frozenset(
    {
        "time-format", "ip-translation", "numeric", "print-node-name", "print-policy-names", "field-mask",
        "use-default-field-masks", "output",
    }
)  # fmt: skip


class Form(Enum):
    """How rows are shown. WIDE: all columns, and all rows."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """observe: which flows, from where. sort: a column, `-` before it for descending; "": the answer's own order."""

    observe: ObserveOptions
    form: Form = Form.TABLE
    sort: str = ""


def _output(settings: Settings) -> OutputOptions:
    color, debug, silent = (settings.get(name) for name in ("color", "debug", "silent-errors"))
    return OutputOptions(color=color, debug=debug, silent_errors=silent)


def _form(text: str) -> Form:
    forms = {form.value: form for form in Form}
    if text not in forms:
        raise one_of("", text, forms)
    return forms[text]


def _options() -> dict[str, Option]:
    rows: dict[str, Option] = {}
    for name, row in OPTIONS.items():
        if name not in _OF_FLOWS:
            rows[name] = row
        if name == "until":
            group, forms = OPTIONS["output"].group, ", ".join(form.value for form in Form)
            rows["output"] = Option("output", group, f"one of {forms}", Form.TABLE, _form, "FORMAT", "o")
            about = "order rows by a column; with - before its name the greatest first"
            rows["sort"] = Option("sort", group, about, "", metavar="COLUMN")
    rows["last"] = replace(rows["last"], help="look at the newest N flows only")
    rows["first"] = replace(rows["first"], help="look at the oldest N flows only")
    rows["all"] = replace(rows["all"], help="look at all flows that are kept")
    rows["since"] = replace(rows["since"], help=f"{OPTIONS['since'].help}; default 5m")
    rows["follow"] = replace(rows["follow"], help="go on, and show rows again as they change")
    rows["exit-code"] = replace(rows["exit-code"], help=OPTIONS["exit-code"].help.replace("flows were found", "there are rows"))
    return rows


ANSWER_OPTIONS: Mapping[str, Option] = _options()


def parse_answer(
    grammar: Grammar, columns: Sequence[Column], words: Sequence[str], env: Mapping[str, str], now_ns: int | None = None
) -> AnswerOptions:
    """words are what follows the command; columns: what --sort may name. Raises UsageError; `--help` prints and exits."""
    settings, filters = split_flags(grammar, words, env)
    now = time.time_ns() if now_ns is None else now_ns
    allow, deny = all_filters(settings, filters)
    sort = settings.get("sort")
    try:
        check_sort(sort, columns)
    except SortError as error:
        close = nearest(sort.removeprefix("-"), error.expected)
        raise UsageError(FilterError("sort", sort, str(error), close).describe("--sort")) from None
    first, last, everything, follow = numbers(settings)
    since, until = bounds(settings, now)
    from_file = settings.get("input-file") or None
    if since is None and until is None and not (first or last or everything or from_file):
        since = now - DEFAULT_SINCE_NS
    number = ALL if everything and since is None and until is None else first or last
    observe = ObserveOptions(
        allow=allow,
        deny=deny,
        selection=Selection(number=number, first=bool(first), follow=follow, since=since, until=until),
        output=_output(settings),
        server=server_options(settings),
        input_file=from_file,
        print_raw_filters=settings.get("print-raw-filters"),
        exit_code=exit_code(settings),
        notes=filters.notes,
    )
    return AnswerOptions(observe, settings.get("output"), sort)
