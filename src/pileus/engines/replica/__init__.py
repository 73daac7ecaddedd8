"""The replica: a process that hosts one engine, and the wire between it and the gateways.

gateway  --  Submit, Cancel  -->  replica         `client.ReplicaLink` is the gateway's end,
gateway  <--  Hello, Step ...  -- replica         `server.serve` the replica's, `wire` what they say
"""
