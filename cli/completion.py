"""Completion: scripts for bash, zsh and fish, made from the tables of commands and flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from flows.cli.answers_options import ANSWER_OPTIONS, Form
from flows.cli.flags_filter import FILTER_FLAGS
from flows.cli.flags_options import OPTIONS, OUTPUTS
from flows.cli.options import Color, TimeFormat
from flows.cli.print.endpoint import RESERVED
from flows.flow.filter.event_type import EVENT_TYPES
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from flows.cli.flags_options import Option

Summaries = Mapping[str, str]

# Values that can be told in advance; `-o` and the other short forms complete as their long forms.
VALUES: Mapping[str, Sequence[str]] = {
    "output": list(OUTPUTS),
    "color": [each.value for each in Color],
    "time-format": [each.value for each in TimeFormat],
    "verdict": [name for name in flow_pb2.Verdict.keys() if name != "VERDICT_UNKNOWN"],  # noqa: SIM118
    "drop-reason-desc": flow_pb2.DropReason.keys(),
    "protocol": ["tcp", "udp", "icmp", "icmpv4", "icmpv6", "sctp", "vrrp", "igmp", "dns", "http", "kafka"],
    "type": list(EVENT_TYPES),
    "tcp-flags": [each.name for each in flow_pb2.TCPFlags.DESCRIPTOR.fields],
    "traffic-direction": ["ingress", "egress"],
    "ip-version": ["v4", "v6", "none"],
    "http-method": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    **{f"{side}identity": RESERVED for side in ("", "from-", "to-")},
}
# Commands whose rows are put together of many flows, and what their --output may be.
_ANSWERS = ("dns", "http", "encryption")
_FORMS = [form.value for form in Form]
_FILES = (
    "input-file", "config", "tls-ca-cert-files", "tls-client-cert-file", "tls-client-key-file", "token-file", "kubeconfig",
)  # fmt: skip
_ONE_OF = {
    "completion": ("bash", "zsh", "fish"),
    "dns": ("names",),
    "demo": ("up", "down", "status", "exec", "apply", "delete"),
    "list": ("namespaces", "nodes"),
    "watch": ("peers",),
}


def completion(shell: str, commands: Summaries) -> str:
    """The script for a shell of SHELLS; commands are the names and what they do."""
    return SHELLS[shell](commands)


def _flags(options: Mapping[str, Option] = OPTIONS) -> dict[str, str]:
    """The flags of `flows observe`, or of a command with other options, and their help."""
    return {row.name: row.help for row in FILTER_FLAGS.values()} | {row.name: row.help for row in options.values()}


def _bash(commands: Summaries) -> str:
    values = "".join(f'    --{name}) words="{" ".join(words)}" ;;\n' for name, words in VALUES.items())
    after = "".join(f'    {name}) words="{" ".join(words)}" ;;\n' for name, words in _ONE_OF.items())
    flags = " ".join(f"--{name}" for name in _flags())
    answers = " ".join(f"--{name}" for name in _flags(ANSWER_OPTIONS))
    files = "|".join(f"--{name}" for name in _FILES)
    return f"""\
# flows completion for bash: source <(flows completion bash)
_flows() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  [ "$before" = "-o" ] && before="--output"
  case "${{COMP_WORDS[1]}} $before" in
    {" | ".join(f'"{name} --output"' for name in _ANSWERS)}) before="--form" ;;
  esac
  case "$before" in
    flows) words="{" ".join(commands)}" ;;
    {files}) COMPREPLY=($(compgen -f -- "$current")); return ;;
    --form) words="{" ".join(_FORMS)}" ;;
{values}{after}    *)
      case "${{COMP_WORDS[1]}}" in
        observe) words="{flags}" ;;
        {"|".join(_ANSWERS)}) words="{answers}" ;;
      esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _flows flows
"""


def _zsh(commands: Summaries) -> str:
    listed = "\n".join(f"    {_quoted(f'{name}:{about}')}" for name, about in commands.items())
    flags = " \\\n      ".join(_zsh_flag(name, about) for name, about in _flags().items())
    answers = " \\\n      ".join(_zsh_flag(name, about, _FORMS) for name, about in _flags(ANSWER_OPTIONS).items())
    after = "\n".join(f"      {name}) compadd {' '.join(words)} ;;" for name, words in _ONE_OF.items() if name not in _ANSWERS)
    return f"""\
#compdef flows
# flows completion for zsh: source <(flows completion zsh)
_flows() {{
  local -a commands=(
{listed}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "$words[2]" in
    observe)
      shift words
      (( CURRENT-- ))
      _arguments -s \\
      {flags} ;;
    {"|".join(_ANSWERS)})
      [[ "$words[2]" == dns ]] && (( CURRENT == 3 )) && compadd names
      shift words
      (( CURRENT-- ))
      _arguments -s \\
      {answers} ;;
{after}
  esac
}}
compdef _flows flows
"""


def _zsh_flag(name: str, about: str, forms: Sequence[str] = ()) -> str:
    """forms: what --output may be, where it is not observe's."""
    text = about.replace("[", "(").replace("]", ")").replace(":", " -")
    if name in _FILES:
        action = ":file:_files"
    elif name in VALUES:
        action = f":{name}:({' '.join(forms if forms and name == 'output' else VALUES[name])})"
    else:
        action = "" if _is_switch(name) else f":{name}: "
    return _quoted(f"*--{name}[{text}]{action}")


def _fish(commands: Summaries) -> str:
    none = "not __fish_seen_subcommand_from " + " ".join(commands)
    lines = ["# flows completion for fish: flows completion fish | source", "complete -c flows -f"]
    lines += [f"complete -c flows -n {_quoted(none)} -a {name} -d {_quoted(about)}" for name, about in commands.items()]
    lines += [
        f"complete -c flows -n '__fish_seen_subcommand_from {name}' -a {_quoted(' '.join(words))}"
        for name, words in _ONE_OF.items()
    ]
    lines += [_fish_flag(name, about) for name, about in _flags().items()]
    lines += [_fish_flag(name, about, _FORMS) for name, about in _flags(ANSWER_OPTIONS).items()]
    return "\n".join(lines) + "\n"


def _fish_flag(name: str, about: str, forms: Sequence[str] = ()) -> str:
    """forms: what --output may be, where it is not observe's."""
    value = "-r -F" if name in _FILES else "" if _is_switch(name) else "-x"
    listed = forms if forms and name == "output" else VALUES.get(name, ())
    words = f" -a {_quoted(' '.join(listed))}" if listed else ""
    commands = " ".join(_ANSWERS) if forms else "observe"
    return f"complete -c flows -n '__fish_seen_subcommand_from {commands}' -l {name} {value}{words} -d {_quoted(about)}"


def _is_switch(name: str) -> bool:
    option = OPTIONS.get(name) or ANSWER_OPTIONS.get(name)
    if option is not None:
        return option.switch
    return FILTER_FLAGS[name].constant is not None


def _quoted(text: str) -> str:
    quoted = text.replace("'", "'\\''")
    return f"'{quoted}'"


SHELLS: Mapping[str, Callable[[Summaries], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
