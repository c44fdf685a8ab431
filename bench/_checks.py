"""What the checks on real engines share."""

from __future__ import annotations


class Skipped(Exception):
    """The check cannot run here."""
