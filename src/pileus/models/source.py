"""What the sources of a model have in common."""


class SourceFailed(Exception):
    """This source cannot give the file; the message is a short note, and another source may."""
