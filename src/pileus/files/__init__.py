"""Stored files: each belongs to a tenant, has a label, and a content in the blob store."""
