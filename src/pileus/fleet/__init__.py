"""Desired against actual: starts replicas, watches them, and tells who is ready."""
