"""Models that encode texts: embeddings in OpenAI's shape, classes in vLLM's, scores of pairs in Cohere's and Jina's,
and the features of a BERT's layers.

    forms        what their requests share, and how an answer is had
    embeddings   POST /v1/embeddings
    classify     POST /v1/classify
    rerank       POST /v1/rerank, /v2/rerank
    features     POST /v1/features
"""
