"""Rules over several flags: from settings and filters to ObserveOptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.cli.flags_filter import FILTER_FLAGS
from flows.cli.flags_options import DEFAULT_LAST, output_format
from flows.cli.flags_raw import parse_raw_filters
from flows.cli.flags_server import server_options
from flows.cli.options import Format, ObserveOptions, OutputOptions, UsageError
from flows.flow.filter import FilterError, compile_filters
from flows.flow.filter.errors import nearest
from flows.flow.filter.selection import ALL, Selection
from flows.flow.times import TimeError, parse_time
from flows.proto.flow_pb2 import Flow, FlowFilter

if TYPE_CHECKING:
    from flows.cli.flags_request import RequestFilters
    from flows.cli.flags_settings import Settings

# Hubble's: --last of --input-file keeps that many flows in memory.
_MAX_LAST_OF_FILE = 1_000_000


def observe_options(settings: Settings, filters: RequestFilters, now_ns: int) -> ObserveOptions:
    """Raises UsageError where values do not go together; now_ns is what durations count back from."""
    output = _output(settings)
    allow, deny = all_filters(settings, filters)
    return ObserveOptions(
        allow=allow,
        deny=deny,
        selection=_selection(settings, output.format, now_ns),
        output=output,
        server=server_options(settings),
        input_file=settings.get("input-file") or None,
        print_raw_filters=settings.get("print-raw-filters"),
        exit_code=exit_code(settings),
        notes=filters.notes,
    )


def all_filters(settings: Settings, filters: RequestFilters) -> tuple[tuple[FlowFilter, ...], tuple[FlowFilter, ...]]:
    """What is wanted and what is not, by flags and by --allowlist and --denylist. Raises UsageError."""
    allow = (*filters.allow, *_raw(settings, "allowlist"))
    deny = (*filters.deny, *_raw(settings, "denylist"))
    try:
        compile_filters(allow, deny)
    except FilterError as error:
        raise UsageError(error.describe(_flag_of(error.field))) from None
    return allow, deny


def exit_code(settings: Settings) -> bool:
    """Whether the exit status is asked for. Raises UsageError."""
    asked: bool = settings.get("exit-code")
    if asked and settings.get("follow"):
        raise UsageError("--exit-code: --follow never ends, so it never knows: use --since or --last without it")
    return asked


def _flag_of(field: str) -> str:
    """The flag that sets the field of the flow itself; the field where it is set by several or by none."""
    return next((f"--{row.name}" for row in FILTER_FLAGS.values() if row.field == field), field)


def _raw(settings: Settings, name: str) -> list[FlowFilter]:
    try:
        return [message for text in settings.get(name) for message in parse_raw_filters(text)]
    except FilterError as error:
        raise UsageError(error.describe(settings.source(name))) from None


def _selection(settings: Settings, output: Format, now_ns: int) -> Selection:
    """Hubble's: the newest 20, unless a number, a time, --all, --follow or a file says otherwise."""
    first, last, everything, follow = numbers(settings)
    if follow and output is Format.TABLE:
        raise UsageError("--output table: table output format is not compatible with follow mode: use compact or dict")
    from_file = bool(settings.get("input-file"))
    since, until = bounds(settings, now_ns)
    if since is None and until is None and not first:
        if everything:
            last = ALL
        elif not last and not follow and not from_file:
            last = DEFAULT_LAST
    return Selection(number=first or last, first=bool(first), follow=follow, since=since, until=until)


def bounds(settings: Settings, now_ns: int) -> tuple[int | None, int | None]:
    """--since and --until, ns since 1970. Raises UsageError."""
    return _time(settings, "since", now_ns), None if settings.get("follow") else _time(settings, "until", now_ns)


def numbers(settings: Settings) -> tuple[int, int, bool, bool]:
    """--first, --last, --all, --follow, if they go together. Raises UsageError."""
    first, last, everything, follow = (settings.get(name) for name in ("first", "last", "all", "follow"))
    for one, other, both in (
        ("first", "last", first and last),
        ("first", "all", first and everything),
        ("first", "follow", first and follow),
        ("last", "all", last and everything),
    ):
        if both:
            raise UsageError(f"cannot set both --{one} and --{other}")
    if settings.get("input-file") and last > _MAX_LAST_OF_FILE:
        raise UsageError(f'--last "{last}": must be at most {_MAX_LAST_OF_FILE} with --input-file, or use --all')
    return first, last, everything, follow


def _time(settings: Settings, name: str, now_ns: int) -> int | None:
    text = settings.get(name)
    if not text:
        return None
    try:
        return parse_time(text, now_ns)
    except TimeError as error:
        raise UsageError(FilterError(name, text, error.expected, error.nearest).describe(f"--{name}")) from None


def _output(settings: Settings) -> OutputOptions:
    spelling = settings.get("output")
    compat = settings.env.get("HUBBLE_COMPAT", "").split(",")
    mask = settings.get("field-mask")
    form = output_format(spelling, compat)
    if mask and form not in (Format.JSON, Format.JSON_LEGACY):
        raise UsageError(f"--field-mask: {spelling} output format is not compatible with custom field mask: add -o json")
    for path in mask:
        _check_path(path)
    return OutputOptions(
        format=form,
        time_format=settings.get("time-format"),
        color=settings.get("color"),
        ip_translation=settings.get("ip-translation") and not settings.get("numeric"),
        print_node_name=settings.get("print-node-name"),
        print_policy_names=settings.get("print-policy-names"),
        field_mask=mask,
        debug=settings.get("debug"),
        silent_errors=settings.get("silent-errors"),
    )


def _check_path(path: str) -> None:
    """A path of field names from flow.Flow on; a repeated field only last (google.protobuf.FieldMask)."""
    message: Any = Flow.DESCRIPTOR
    walked: list[str] = []
    for name in path.split("."):
        fields = message.fields_by_name if message is not None else {}
        if name not in fields:
            close = nearest(name, fields)
            whole = ".".join([*walked, close]) if close else ""
            expected = 'expected paths of fields of message "flow.Flow", e.g. time,source.pod_name'
            error = FilterError("field-mask", path, f"invalid path; {expected}", whole)
            raise UsageError(error.describe("--field-mask"))
        walked.append(name)
        message = None if fields[name].is_repeated else fields[name].message_type
