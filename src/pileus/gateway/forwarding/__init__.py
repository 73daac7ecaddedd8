"""Several gateway processes on one machine: one owns the scheduling, the others forward to it.

A further gateway parses, authenticates, tokenises and streams. What must be decided once, it asks the owner: the money
that is reserved, the turn, the replica, the settlement. It sends the request to that replica over a connection of its
own, so tokens never pass through the owner.
"""
