"""Fakes that ship with the product: an engine, a tokenizer and a clock that behave, and fail, as they are told."""
