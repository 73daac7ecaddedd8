"""Many requests as one file: a job of the kind `batch`, whose handler runs in a job worker.

    file ──lines, validation──▶ plan ──runner──▶ journal ──finalising──▶ output and error file

The whole file is checked before any line of it runs (`validation`); the plan says in which order they do (`order`).
A line's result stands in the journal (`journal`); with the checkpoint that covers it, it is committed, and the line
never runs again. So a line may be computed twice where something is killed, and counts once.
"""
