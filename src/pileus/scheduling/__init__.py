"""Decisions: pure functions and small state machines. Time is an argument; nothing here does I/O."""
