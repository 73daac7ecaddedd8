"""The converter: `python -m pileus.models.convert SOURCE FOLDER`, one process for one model.

    dispatch          what a source is, and which of the others it needs
    gguf_file         reads a GGUF, checking that everything lies inside the file
    gguf_model        its hyperparameters, and its weights under Hugging Face's names
    quantised         its weight blocks as OpenVINO's compressed weights
    tokenizer_json    its vocabulary and merges as tokenizer.json
    generation        its end-of-turn tokens and context length
    safetensors_file  reads safetensors, checking likewise
    huggingface       a folder of them: hyperparameters, weights, generation
    weights           constants of a graph
    llama_graph       the graph of the Llama family
    bert_graph        the graph of BERT
    encoder           what a folder of BERT's, or with an ONNX file, says of itself
    openvino_ir       writes it; looks over one that was exported elsewhere

Never PyTorch, never pickle, never code that comes with a model.
"""
