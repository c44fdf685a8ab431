"""`local`: every process on this machine, by one bash script."""

from hexdsl.targets.launchers.local.files import files
from hexdsl.targets.launchers.local.supports import supports

__all__ = ["files", "supports"]
