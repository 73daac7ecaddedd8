"""lm-evaluation-harness, as a client of this API."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pileus.cli.client import Client
from pileus.core.errors import OperatorError


def run_harness(client: Client, model: str, tasks: list[str], out: Path | None, limit: int) -> None:
    """Run tasks that let the model speak. Those that rank given answers need log probabilities of a prompt, which
    chat completions do not give. Raises `OperatorError` where the harness is not there, or fails."""
    if find_spec("lm_eval") is None:
        raise OperatorError('--harness needs lm-evaluation-harness: run `uv pip install "lm_eval[api]"` beside Pileus')
    address = f"{client.url}/v1/chat/completions"
    command = [sys.executable, "-m", "lm_eval", "--model", "local-chat-completions", "--apply_chat_template"]
    command += ["--model_args", f"model={model},base_url={address},num_concurrent=8,max_retries=3"]
    command += ["--tasks", ",".join(tasks)]
    command += ["--limit", str(limit)] if limit else []
    command += ["--output_path", str(out)] if out else []
    done = subprocess.run(command, env=os.environ | {"OPENAI_API_KEY": client.key}, check=False)  # noqa: S603
    if done.returncode:
        raise OperatorError(f"lm-evaluation-harness ended with status {done.returncode}")
