"""Models to begin from whose configs call dropout by other names than the recipe does."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from pileus.jobs.handler import JobFailed
from pileus.training.recipes.bert import BERT_DROPOUT  # stands on PyTorch
from pileus.training.recipes.recipe import loaded
from pileus.training.tokens import train_tokenizer
from unit.training.corpus import spec_of, train


def test_dropout_that_a_base_knows_by_another_name_is_refused_and_its_own_kept(tmp_path: Path) -> None:
    own = DistilBertConfig(vocab_size=9, dim=8, hidden_dim=8, n_layers=1, n_heads=1, max_position_embeddings=4)
    DistilBertModel(own).save_pretrained(tmp_path)
    with pytest.raises(JobFailed, match="`dropout` should be left out: a base of the type 'distilbert' keeps its own"):
        loaded(AutoModelForSequenceClassification, tmp_path, dict.fromkeys(BERT_DROPOUT, 0.5), num_labels=3)
    model = loaded(AutoModelForSequenceClassification, tmp_path, {}, num_labels=3)
    assert model(torch.tensor([[1, 2]])).logits.shape == (1, 3)
    assert model.config.dropout == own.dropout


def test_a_run_with_such_a_base_says_so_and_goes_without_it(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tokenizer = train_tokenizer(["the cat sat on the mat"], 300, "gpt")
    tokenizer.save_pretrained(base)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=16, n_embd=8, n_layer=1, n_head=1)
    GPT2LMHeadModel(config).save_pretrained(base)
    with pytest.raises(JobFailed, match="'gpt2' keeps its own, for its config has no attention_dropout"):
        train(spec_of(tmp_path, "gpt", base=str(base), steps=1, dropout=0.5), tmp_path / "run")
    assert train(spec_of(tmp_path, "gpt", base=str(base), steps=1), tmp_path / "run").outcome.ended
