"""The converter's process: reports on standard output, one JSON object a line."""

import sys
from pathlib import Path

import msgspec

from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.conversion import UNQUANTISED, Report
from pileus.models.store import told_to_operator


def main() -> int:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        _report(Report(stage="converting"))
        from pileus.models.convert.dispatch import CONVERTER, convert  # heavy: after the first sign of life
        from pileus.models.convert.unquantised import write_folder

        make = write_folder if UNQUANTISED in sys.argv[3:] else convert
        with told_to_operator(folder):
            make(source, folder, lambda stage, done, total: _report(Report(stage, done, total)))
    except ModelRefused as refusal:
        _report(Report(refused=refusal.message))
        return 1
    except OperatorError as failure:
        _report(Report(failed=failure.message))
        return 1
    _report(Report(finished=CONVERTER))
    return 0


def _report(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
