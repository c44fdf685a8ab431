"""The kinds of blocks by the words that specs use.  A kind's module is loaded when a file holds such a block."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module

from hexdsl.ir.base import Ir


class Kinds(MutableMapping[str, type[Ir]]):
    """Words to records.  Where nothing else is set, the kind `gpu` is the record `Gpu` of the module `gpu`."""

    def __init__(self, *words: str) -> None:
        self._records: dict[str, type[Ir] | None] = dict.fromkeys(words)

    def __getitem__(self, word: str) -> type[Ir]:
        record = self._records[word]
        if record is None:
            record = getattr(import_module(f"hexdsl.ir.spec.{word}"), word.capitalize())
            self._records[word] = record
        return record

    def __contains__(self, word: object) -> bool:
        return word in self._records

    def __setitem__(self, word: str, record: type[Ir]) -> None:
        self._records[word] = record

    def __delitem__(self, word: str) -> None:
        del self._records[word]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)
