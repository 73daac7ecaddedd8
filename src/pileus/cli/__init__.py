"""The `pileus` command: boots a server, or speaks HTTP to one. It holds no logic.

Each command imports what it needs when it runs, so that `pileus version` and shell completion stay instant.
"""
