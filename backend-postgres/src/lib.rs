//! Idempotency reservations in PostgreSQL.
