"""The relational store: what must outlive the process. It keeps records and arbitrates; it knows no business rule."""
