"""`hexc schema`, `hexc completion`, `hexc targets`, `hexc passes`: what there is."""

from __future__ import annotations

import argparse

from hexdsl.commands.base import Output, as_json
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.values import suggestion


def schema_command(args: argparse.Namespace) -> Output:
    """Every kind of block with its fields."""
    from hexdsl.lang.schema import DOCUMENTED, schema_json, schema_markdown

    if args.kind is not None and args.kind not in DOCUMENTED:
        raise UsageError(
            [Diagnostic("E022", f"`{args.kind}` is not a kind of block", (), suggestion(args.kind, DOCUMENTED))]
        )
    return Output(data=as_json(schema_json(args.kind)) if args.json else schema_markdown(args.kind))


def targets_command(args: argparse.Namespace) -> Output:
    """The engines and launchers."""
    from hexdsl.targets.registry import describe

    rows = describe()
    if args.json:
        return Output(data=as_json({"format_version": "1.0", "targets": [dict(r) for r in rows]}))
    return Output(data="\n".join(f"{r['kind']:<9} {r['name']:<10} {r['about']}" for r in rows))


def passes_command(args: argparse.Namespace) -> Output:
    """The passes of each workflow, in order."""
    from hexdsl.pipeline import PIPELINES

    if args.json:
        listed = {k: [{"name": p.name, "about": p.summary} for p in passes] for k, passes in PIPELINES.items()}
        return Output(data=as_json({"format_version": "1.0", "passes": listed}))
    lines = [
        f"{kind}\n" + "\n".join(f"  {p.name:<12} {p.summary}" for p in passes) for kind, passes in PIPELINES.items()
    ]
    return Output(data="\n".join(lines))


def completion_command(args: argparse.Namespace) -> Output:
    """A completion script: commands, their options, and files."""
    options = _options()
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](options)
    return Output(
        data=as_json({"format_version": "1.0", "shell": args.shell, "script": script}) if args.json else script
    )


def _options() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Command to its help and its long options, read from the parser itself."""
    from hexdsl.cli import parser

    actions = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    helps = {c.dest: c.help or "" for c in actions._choices_actions}
    return {
        name: (helps.get(name, ""), tuple(o for a in sub._actions for o in a.option_strings if o.startswith("--")))
        for name, sub in actions.choices.items()
    }


def _bash(options: dict[str, tuple[str, tuple[str, ...]]]) -> str:
    cases = "\n".join(f'    {name}) words="{" ".join(longs)}" ;;' for name, (_, longs) in options.items())
    return f"""_hexc() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W "{" ".join(options)}" -- "$word")
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [[ "$word" == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}}
complete -o filenames -F _hexc hexc
"""


def _zsh(options: dict[str, tuple[str, tuple[str, ...]]]) -> str:
    listed = " ".join(f"'{name}:{help_.replace(chr(39), '')}'" for name, (help_, _) in options.items())
    cases = "\n".join(
        f"    {name}) _arguments {' '.join(longs)} '*:file:_files' ;;" for name, (_, longs) in options.items()
    )
    return f"""#compdef hexc
_hexc() {{
  local -a commands=({listed})
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "$words[2]" in
{cases}
  esac
}}
_hexc "$@"
"""


def _fish(options: dict[str, tuple[str, tuple[str, ...]]]) -> str:
    lines = []
    for name, (help_, longs) in options.items():
        quoted = help_.replace("'", "")
        lines.append(f"complete -c hexc -n __fish_use_subcommand -a {name} -d '{quoted}'")
        lines += [f"complete -c hexc -n '__fish_seen_subcommand_from {name}' -l {o[2:]}" for o in longs]
    return "\n".join(lines) + "\n"
