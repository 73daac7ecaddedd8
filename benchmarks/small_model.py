"""A small language model trained here, to be compressed: `python -m benchmarks.small_model FOLDER [TEXT]`.

A Llama of 4 layers and a byte-level vocabulary of its own, on a text (all but its last tenth) or on the generator's.
`FOLDER` becomes a Hugging Face folder. Killed, the same command goes on where it was.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig

from pileus.compression.learning import Learner
from pileus.compression.spec import Learning
from pileus.compression.texts import read, written

VOCABULARY = 2048
END = "<|endoftext|>"
LEARNING = Learning(steps=600, batch=8, length=128, rate=2.5e-3)  # less than two times through a megabyte
SHAPE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
SEED = 11


def main(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    corpus = read(text) if text else written(1_500_000, SEED)
    corpus = corpus[: len(corpus) * 9 // 10]
    tokenizer = _tokenizer(corpus, folder / "tokenizer.json")
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True, **SHAPE
    )
    model = AutoModelForCausalLM.from_config(config)

    def tell(step: int, loss: float) -> bool:
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {LEARNING.steps}, loss {loss:.3f}", flush=True)
        return False

    learner = Learner(model, LEARNING, tokenizer.encode_batch([corpus])[0].ids, SEED)
    learner.run(folder.with_suffix(".learning.safetensors"), tell)
    model.to(torch.float16).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))


def _tokenizer(corpus: str, file: Path) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([corpus], trainer)
    tokenizer.save(str(file))
    return tokenizer


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
