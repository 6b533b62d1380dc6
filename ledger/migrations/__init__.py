"""Alembic: one history for PostgreSQL and SQLite."""
