"""What a key may ask of the scheduler, and what its tenant gets of it.

A key that was made before has what a new one has by default: on-demand and batch work, no priority over others, an
equal share.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("lanes", sa.Text, nullable=False, server_default="on_demand,batch"),
        sa.Column("max_priority", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("weight", sa.Float, nullable=False, server_default=sa.text("1")),
        sa.Column("tokens_per_s", sa.Float, nullable=False, server_default=sa.text("0")),
    ):
        op.add_column("api_key", column)
