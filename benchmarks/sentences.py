"""Sentence Transformers in a process of its own, started by the python of its environment: it imports nothing of ours.

Arguments: the model's folder and the number of threads. Orders come in as lines of JSON with `texts`, `batch` and `out`
(a file for the vectors, in float32, or nothing); the seconds that each took go out.
"""

import json
import sys
from time import perf_counter


def main(folder: str, threads: str) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(int(threads))
    model = SentenceTransformer(folder, device="cpu")
    for line in sys.stdin:
        order = json.loads(line)
        began = perf_counter()
        vectors = model.encode(order["texts"], batch_size=order["batch"], normalize_embeddings=True)
        seconds = perf_counter() - began
        if order["out"]:
            vectors.astype("<f4").tofile(order["out"])
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
