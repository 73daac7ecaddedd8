"""`pileus demo life`: one small model's whole life on this machine, from texts that are made here."""
