"""Costs: memory, compute, network and price, every number with its provenance."""
