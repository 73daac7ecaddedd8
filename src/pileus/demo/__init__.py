"""`pileus demo life`: a model's whole life on this machine, from texts that are made here to a service and back.

It is a client of a running server and nothing more: what it does, anybody can do over HTTP.
"""
