"""Fewer bits, on the graph that is served, by NNCF.

Weights only: INT8 and INT4 in groups, as they are or tuned by what calibration shows (AWQ, scale estimation, GPTQ).
Full INT8: weights and activations, after the activations' outliers moved into the weights (SmoothQuant). Embeddings and
the last product keep 8 bits where the rest has 4: in a small model they matter most.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov

from pileus.compression.spec import Form, Weights
from pileus.jobs.handler import JobFailed
from pileus.models.artefact import MODEL_BIN, MODEL_XML

# NNCF tells its makers what it is used for, unless it believes itself in their own checks or finds nothing to tell by.
# Both are seen to before it is imported.
os.environ["NNCF_CI"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # as if it were not installed

_ATTENTION: Final = "ScaledDotProductAttention"  # paged when it is served, with a cache of a precision of its own


def quantise(graph: Path, folder: Path, to: Form, weights: Weights, sequences: Sequence[Sequence[int]]) -> None:
    """Write the model of `graph` (an artefact's folder, in float16) to `folder` with fewer bits. `sequences` of ids
    are what it is calibrated on. Raises `JobFailed` where the weights' shape does not take the groups."""
    import nncf

    _require_silence()
    model = ov.Core().read_model(graph / MODEL_XML)
    dataset = nncf.Dataset(list(sequences), _inputs)
    try:
        if to == Form.FULL_INT8:
            model = _full(model, dataset, len(sequences), weights)
        else:
            model = nncf.compress_weights(model, **_weights_only(to, weights, dataset, len(sequences)))
    except nncf.errors.UnsupportedModelError as error:
        raise JobFailed(f"NNCF refuses: {error}", code="not_compressible") from error
    except (nncf.errors.InvalidGroupSizeError, nncf.errors.ValidationError) as error:
        raise JobFailed(f"these groups do not fit the weights: {error}", code="bad_groups") from error
    ov.serialize(model, folder / MODEL_XML, folder / MODEL_BIN)


def _weights_only(to: Form, weights: Weights, dataset: Any, size: int) -> dict[str, Any]:
    import nncf

    kind = "SYM" if weights.symmetric else "ASYM"
    if to == Form.INT8:  # always by channel: in 8 bits groups gain nothing
        return {"mode": nncf.CompressWeightsMode[f"INT8_{kind}"]}
    asked: dict[str, Any] = {
        "mode": nncf.CompressWeightsMode[f"INT4_{kind}"],
        "group_size": weights.group,
        "ratio": weights.share,
    }
    if weights.tuned:
        asked |= {"dataset": dataset, "subset_size": size}
        asked |= {"awq": "awq" in weights.tuned, "gptq": "gptq" in weights.tuned}
        asked |= {"scale_estimation": "scale" in weights.tuned}
    return asked


def _full(model: ov.Model, dataset: Any, size: int, weights: Weights) -> ov.Model:
    import nncf

    return nncf.quantize(
        model,
        dataset,
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=size,
        ignored_scope=nncf.IgnoredScope(types=[_ATTENTION]),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=weights.smooth)
        ),
    )


def _inputs(ids: Sequence[int]) -> dict[str, Any]:
    length = len(ids)
    return {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, length), np.int64),
        "position_ids": np.arange(length, dtype=np.int64)[None],
        "beam_idx": np.zeros(1, np.int32),
    }


def _require_silence() -> None:
    from nncf.telemetry.wrapper import NNCFTelemetry, telemetry

    if isinstance(telemetry, NNCFTelemetry):
        raise RuntimeError("NNCF was imported with its telemetry on")
