"""Who calls, what they may do, what it costs them, and what is on record about it. Trusts no caller; fails closed."""
