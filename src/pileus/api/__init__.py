"""The HTTP edge: who may call what, wire forms to records and back, and nothing else.

A request's way: `connection` bounds the socket, `edge` names the request and turns errors into answers, `route` asks
for the permission, `body` reads and parses, a handler in `openai/` or `admin/` calls the pipeline, `stream` sends.
"""
