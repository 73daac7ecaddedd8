"""What a key may do: a role is a set of permissions, and every route names the one it needs."""

from enum import StrEnum
from types import MappingProxyType

from pileus.core.errors import PermissionDenied
from pileus.core.records import Principal


class Permission(StrEnum):
    GENERATE = "generate"
    MODELS_READ = "models.read"
    FILES_READ = "files.read"
    FILES_WRITE = "files.write"
    JOBS_READ = "jobs.read"
    JOBS_WRITE = "jobs.write"
    STATUS_READ = "status.read"
    METRICS_READ = "metrics.read"
    KEYS_MANAGE = "keys.manage"
    AUDIT_READ = "audit.read"
    BACKUP = "backup"
    WEBHOOKS_MANAGE = "webhooks.manage"
    MODELS_MANAGE = "models.manage"
    FINE_TUNE = "fine_tune"


class Role(StrEnum):
    ADMIN = "admin"  # owns this Pileus
    OPERATOR = "operator"  # watches it
    USER = "user"  # uses its models


_FILES = (Permission.FILES_READ, Permission.FILES_WRITE)
_JOBS = (Permission.JOBS_READ, Permission.JOBS_WRITE)
_USER = frozenset({Permission.GENERATE, Permission.MODELS_READ, Permission.FINE_TUNE, *_FILES, *_JOBS})
_OPERATOR = _USER | {Permission.STATUS_READ, Permission.METRICS_READ}

ROLES = MappingProxyType({Role.ADMIN: frozenset(Permission), Role.OPERATOR: _OPERATOR, Role.USER: _USER})


def require(principal: Principal, permission: Permission) -> None:
    """Raises `PermissionDenied` unless the caller's role holds the permission."""
    if permission not in principal.permissions:
        raise PermissionDenied(f"This key's role, {principal.role}, lacks the permission {permission.value}.")
