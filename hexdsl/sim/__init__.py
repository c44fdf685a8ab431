"""Discrete-event simulation of serving: replicas with a vLLM-style scheduler, routers, links, failures."""
