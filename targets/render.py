"""The one writer of bundles: all of a bundle's files or none."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.launch import File, Launch
from hexdsl.ir.plan import Plan
from hexdsl.targets.engines.torch.change import CHANGE
from hexdsl.targets.readme import readme

VERSIONS = {
    "plan.json": Plan.model_fields["format_version"].default,
    "launch.json": Launch.model_fields["format_version"].default,
}
"""The files by which a bundle is known, with the format that this version reads and writes."""


def render(
    plan: Plan, launch: Launch, out: Path, *, timings: Mapping[str, float] | None = None, force: bool = False
) -> None:
    """Writes a bundle to the folder `out`.  The same plan and launch give the same bytes.

    `timings` (seconds) go to a file of their own.  `force` replaces `out` if it is a bundle.
    Raises UsageError (P010) where the folder cannot be used.
    """
    files = bundle_files(plan, launch)
    if timings is not None:
        files = (*files, File(path="timings.json", text=_json(timings)))
    write_all(files, out, force, is_bundle)


def write_all(files: tuple[File, ...], out: Path, force: bool, is_ours: Callable[[Path], bool]) -> None:
    """Writes all of these files to the folder `out`, or none; `force` replaces a folder that `is_ours`.

    Raises UsageError (P010) where the folder cannot be used.
    """
    out = Path(os.path.realpath(out))
    _check_free(out, force, is_ours)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            _swap(_write(files, Path(scratch) / "new"), out, Path(scratch) / "old")
    except OSError as error:
        raise _unusable(f"`{out}` cannot be written: {error.strerror}", "name another folder with `-o`") from None


def bundle_files(plan: Plan, launch: Launch) -> tuple[File, ...]:
    """Every file of a bundle.  `launch.json` leaves out the texts of the other files."""
    return (
        File(path="plan.json", text=_record(plan)),
        File(path="launch.json", text=_record(launch.with_(files=()))),
        File(path="README.md", text=readme(plan, launch)),
        *launch.files,
    )


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle that this version of hexc reads."""
    return all(_version(folder / name) == version for name, version in VERSIONS.items())


def _version(path: Path) -> object:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data.get("format_version") if isinstance(data, dict) else None


def _check_free(out: Path, force: bool, is_ours: Callable[[Path], bool]) -> None:
    if out == Path.cwd():
        raise _unusable("the current folder cannot be the bundle", "name a new folder, such as `-o bundle`")
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise _unusable(f"`{out}` is a file", "name a folder with `-o`")
    try:
        empty = not any(out.iterdir())
    except OSError as error:
        raise _unusable(f"`{out}` cannot be read: {error.strerror}", "name another folder with `-o`") from None
    if empty or (force and is_ours(out)):
        return
    if is_ours(out):
        raise _unusable(f"`{out}` holds a bundle already", "`--force` replaces it")
    raise _unusable(f"`{out}` is not empty and not a bundle of hexc", "name a new folder with `-o`")


def is_change(folder: Path) -> bool:
    """Whether a folder is a change of a running deployment that this version of hexc wrote."""
    plan, change = folder / "plan.json", folder / CHANGE
    return _version(plan) == VERSIONS["plan.json"] and change.is_file()


def record(data: Ir) -> str:
    """A record as a bundle's file holds it."""
    return _record(data)


def _write(files: tuple[File, ...], folder: Path) -> Path:
    folder.mkdir()
    for file in files:
        if ".." in PurePosixPath(file.path).parts:
            raise ValueError(f"a launcher gave a file outside the bundle: {file.path}")
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8", newline="")
        path.chmod(path.stat().st_mode | (0o111 & path.stat().st_mode >> 2 if file.executable else 0))
    return folder


def _swap(new: Path, out: Path, old: Path) -> None:
    """Puts `new` in the place of `out`; what was there is put back if that fails."""
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise


def _record(record: Ir) -> str:
    return _json(record.model_dump(mode="json"))


def _json(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _unusable(message: str, help_: str) -> UsageError:
    return UsageError([Diagnostic("P010", message, (), help_)])
