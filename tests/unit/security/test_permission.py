"""Roles and what they may do."""

import pytest

from pileus.core.errors import PermissionDenied
from pileus.core.records import Principal
from pileus.security.permission import ROLES, Permission, Role, require


def principal(role: Role) -> Principal:
    return Principal("key_1", "default", role, frozenset(map(str, ROLES[role])))


def test_an_admin_may_do_everything() -> None:
    for permission in Permission:
        require(principal(Role.ADMIN), permission)


@pytest.mark.parametrize("role", [Role.USER, Role.OPERATOR])
@pytest.mark.parametrize("permission", [Permission.KEYS_MANAGE, Permission.AUDIT_READ])
def test_only_an_admin_touches_keys_and_the_audit(role: Role, permission: Permission) -> None:
    with pytest.raises(PermissionDenied, match=f"{role}, lacks the permission {permission}"):
        require(principal(role), permission)


def test_each_role_holds_what_the_one_below_holds() -> None:
    assert ROLES[Role.USER] < ROLES[Role.OPERATOR] < ROLES[Role.ADMIN]


def test_no_permission_is_held_by_an_empty_set() -> None:
    with pytest.raises(PermissionDenied):
        require(Principal("key_1", "default", "retired", frozenset()), Permission.MODELS_READ)
