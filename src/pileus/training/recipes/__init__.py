"""What can be trained: each recipe is a model, its examples, and its loss. See `loop.Recipe`."""

from importlib import import_module
from typing import Final, cast

from pileus.training.recipes.recipe import OpenRecipe, Setting

_CLASSES: Final = {
    "gpt": ("gpt", "Gpt"),
    "bert": ("bert", "Bert"),
    "classifier": ("classifier", "Classifier"),
    "encoder": ("encoder", "Encoder"),
    "seq2seq": ("seq2seq", "Seq2Seq"),
}


def open_recipe(setting: Setting) -> OpenRecipe:
    """The recipe that the spec names, with its model and its prepared data."""
    module, name = _CLASSES[setting.spec.recipe]
    return cast("OpenRecipe", getattr(import_module(f"pileus.training.recipes.{module}"), name)(setting))
