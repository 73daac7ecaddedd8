"""Pileus: an LLM cloud that you own, from a model file to a service that many people use at once."""

__version__ = "0.1.0"
