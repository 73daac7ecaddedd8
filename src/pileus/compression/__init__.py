"""Models made smaller or faster, and what that costs: quantised, pruned, distilled; each with a report.

    spec        what is asked for
    source      the weights that it begins from
    texts       what a model is calibrated, trained and tested on
    quantise    weights, or weights and activations, in 8 or 4 bits (NNCF, on the graph that is served)
    prune       what matters least goes (PyTorch)
    student     a shallower or thinner model of the teacher's own layers
    learning    a short training, alone or after a teacher
    gguf_target the weights as a GGUF
    vllm_target the weights as vLLM takes them (llm-compressor)
    measure     perplexity, tasks, size, speed
    report      JSON, Markdown, a plot
    process     the job: `python -m pileus.compression.process`

Only `process` and what it imports know PyTorch and NNCF. `spec` is what everybody may import.
"""
