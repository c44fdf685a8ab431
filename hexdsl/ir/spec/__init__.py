"""The nouns of the language: one file a block kind."""

from hexdsl.ir.spec.spec import CATALOG_KINDS, KINDS, WORKFLOW_KINDS, Default, Spec, Workflow

__all__ = ["CATALOG_KINDS", "KINDS", "WORKFLOW_KINDS", "Default", "Spec", "Workflow"]
