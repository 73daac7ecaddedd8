"""`python -m pileus`: the same as the `pileus` command, for where no script is on the path (replica processes)."""

from pileus.cli.main import main

if __name__ == "__main__":
    main()
