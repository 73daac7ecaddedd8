"""The engines of this program, for those who choose among them."""

from typing import Final

from pileus.bootstrap import ENCODERS, ENGINES, FAKE_ENCODER, FAKE_MODEL, load_driver
from pileus.fleet.engines import Engines
from pileus.models.artefact import Kind

CHOICE: Final = Engines(
    ENGINES,
    load_driver,
    encoders=ENCODERS,
    of_kind={Kind.GENERATOR: "native", Kind.ENCODER: "encoder"},
    of_fake={FAKE_MODEL: "fake", FAKE_ENCODER: "fake_encoder"},
)
