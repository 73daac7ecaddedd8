"""Benchmarks: the same model and the same token ids through every engine, in one run, alternating.

The way of a figure, from left to right (each name is a module):

    workloads -> engines/* -> client -> answers -> figures -> results -> report, plot

`client` only records bytes and the time of their arrival; `answers` reads them strictly *after* the clock has stopped,
and a stream that is incomplete, too short or too long is an error, never a figure.
"""
