"""Training and fine-tuning: recipes on PyTorch, each a job in a process of its own.

Only modules that run in such a process import PyTorch; what the server needs of this room (specs, checks) does not.
"""
