"""The native engine: our loop on OpenVINO's runtime, for CPUs."""

from pileus.core.ports import Engine, EngineDriver, EngineSpec
from pileus.engines.native.options import NativeOptions


def _open(spec: EngineSpec) -> Engine:
    # Imported here because it loads OpenVINO, which only the replica process may.
    from pileus.engines.native.engine import NativeEngine

    return NativeEngine(spec)


DRIVER = EngineDriver(name="native", options=NativeOptions, open=_open)
