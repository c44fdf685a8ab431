"""Models and GPUs by name: those of a spec, those of the shipped catalog, and config.json files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.spec import Spec
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import Format, FormatWord, Model
from hexdsl.ir.spec.profile import Profile, read_profile
from hexdsl.ir.values import suggestion
from hexdsl.lang.hf import read_config
from hexdsl.lang.resolve import load_file
from hexdsl.lang.source import read_bytes

MAX_CONFIG = 10_000_000

_ADDED = re.compile(r"(instruct|chat|hf|fp8|bf16|sxm[0-9]?|server)$")
"""What stands after a model's or GPU's name without making it another one to the cost model."""


@dataclass(frozen=True)
class Catalog:
    """Models and GPUs by name; those of the spec go first."""

    models: Mapping[str, Model]
    gpus: Mapping[str, Gpu]
    read: dict[str, Model] = field(default_factory=dict, compare=False)

    def model(self, name: str) -> Model:
        """The model that a name or the path of a config.json means.  Raises UsageError."""
        if name in self.models:
            return self.models[name]
        if name not in self.read:
            known = _alike(name, self.models, (m.source or "" for m in self.models.values()))
            self.read[name] = self.models[known] if known else _from_config(name, self.models)
        return self.read[name]

    def gpu(self, name: str) -> Gpu:
        """The GPU that a name means.  Raises UsageError."""
        known = name if name in self.gpus else _alike(name, self.gpus, ("" for _ in self.gpus))
        if known is None:
            help_ = f"{suggestion(name, self.gpus)}; or declare it in a spec and give that"
            raise UsageError([Diagnostic("E020", f"there is no GPU `{name}`", (), help_)])
        return self.gpus[known]


def catalog_of(spec: Spec | None) -> Catalog:
    """The shipped catalog with the models and GPUs of a spec on top."""
    models, gpus = _shipped()
    mine = spec or Spec(name="none")
    return Catalog(
        {**models, **{m.name: m for m in mine.models}}, {**gpus, **{g.name: g for g in mine.gpus}}
    )  # fmt: skip


@cache
def _shipped() -> tuple[dict[str, Model], dict[str, Gpu]]:
    folder = Path(str(files("hexdsl.std")))
    models, gpus = (load_file(folder / f"{name}.hex").spec for name in ("models", "gpus"))
    return {m.name: m for m in models.models}, {g.name: g for g in gpus.gpus}


def _alike(name: str, known: Iterable[str], sources: Iterable[str]) -> str | None:
    """The known name whose own form or origin is that of `name`, but for what is added to such names."""
    wanted = _plain(name)
    for candidate, source in zip(known, sources, strict=True):
        if wanted in (_plain(candidate), source and _plain(source)):
            return candidate
    return None


def _plain(name: str) -> str:
    """`meta-llama/Llama-3.1-8B-Instruct-FP8` is `llama318b`."""
    plain = re.sub(r"[^a-z0-9]", "", name.rpartition("/")[2].lower())
    while plain != (shorter := _ADDED.sub("", plain)) and shorter:
        plain = shorter
    return plain


def _from_config(name: str, known: Iterable[str]) -> Model:
    path = Path(name)
    path = path / "config.json" if path.is_dir() else path
    if not (path.is_file() or path.suffix == ".json"):
        help_ = f"{suggestion(name, known)}; or the path of a config.json"
        raise UsageError([Diagnostic("E020", f"there is no model `{name}`", (), help_)])
    try:
        text = read_bytes(path, str(path), MAX_CONFIG).decode("utf-8")
        return Model.model_validate({**read_config(text), "name": re.sub(r"\W", "_", path.parent.name or "model")})
    except ValidationError as error:
        missing = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        message = f"`{path}` is not the config.json of a decoder: {missing}"
    except ValueError as error:
        message = f"`{path}`: {error}"
    raise UsageError([Diagnostic("E140", message, (), "name the config.json of a decoder model")])


def read_profile_file(path: str) -> Profile:
    """The profile in a file.  Raises UsageError where it is none."""
    try:
        return read_profile(read_bytes(Path(path), path, MAX_CONFIG))
    except ValueError as error:
        raise UsageError([Diagnostic("E141", f"`{path}`: {error}", (), "`hexc profile` writes such a file")]) from None


def profiled(gpu: Gpu, profile: Profile) -> Gpu:
    """The GPU with a profile.  Raises UsageError where that is of another GPU."""
    try:
        return gpu.with_(profile=profile)
    except ValidationError as error:
        reason, help_ = error.errors()[0]["msg"], "measure this GPU with `hexc profile`, or name its own profile"
        raise UsageError([Diagnostic("E141", f"`{gpu.name}`: {reason}", (), help_)]) from None


def in_formats(model: Model, weights: FormatWord | None, kv: FormatWord | None) -> Model:
    """The model with other number formats, where they are given; activations then follow the weights."""
    changes: dict[str, object] = {"kv": Format(kind=kv)} if kv else {}
    if weights:
        changes |= {"weights": Format(kind=weights), "activations": None}
    return model.with_(**changes) if changes else model
