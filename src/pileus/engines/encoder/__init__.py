"""The encoder engine: BERT and its like on OpenVINO's runtime, for CPUs.

options   what an operator may set
graph     the compiled model: texts side by side in, hidden states or scores out
heads     from hidden states to what was asked for
job       a request that has not ended
engine    the loop: receive, choose texts of about one length, have them run side by side, report
"""

from pileus.core.ports import Encoder, EngineDriver, EngineSpec
from pileus.engines.encoder.options import EncoderOptions


def _open(spec: EngineSpec) -> Encoder:
    # Imported here because it loads OpenVINO, which only the replica process may.
    from pileus.engines.encoder.engine import EncoderEngine

    return EncoderEngine(spec)


DRIVER = EngineDriver(name="encoder", options=EncoderOptions, open=_open)
