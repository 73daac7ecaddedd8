"""The converter: `python -m pileus.models.convert SOURCE FOLDER`, one process for one model.

    gguf_file     reads a GGUF's metadata, and checks that its tensors lie inside the file
    openvino_ir   weights of a GGUF -> openvino_model.xml and .bin
    tokenizer_json  vocabulary and merges of a GGUF -> tokenizer.json, as Hugging Face writes it
    huggingface   a folder of safetensors -> a GGUF, whence the same way
    ready         a folder that is OpenVINO already

Never PyTorch, never pickle, never code that comes with a model.
"""
