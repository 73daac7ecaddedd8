"""A model learns from somebody's examples: `/v1/fine_tuning/jobs`, each a job of the kind `fine_tune`.

    files ──check (every line, before anything runs)──▶ process: base + adapter ──steps, checkpoints──▶ artefact

The handler runs in a job worker and checks the files; what needs PyTorch runs in a process of its own (`process`). What
comes of it is an adapter that is served beside its base, or with full fine-tuning a model.
"""
