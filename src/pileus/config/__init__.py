"""One frozen settings tree and one loader. Nothing here is read at import time, and nothing here is a secret."""
