-- Version 1: the records.
--
-- A rowid table with the bodies last: a completion rewrites one leaf page, and the unique index stays
-- small. In a WITHOUT ROWID tree it would rewrite fat interior pages, at half the rate (docs/benchmarks.md).
-- Times are microseconds on the host's clock since 1970-01-01T00:00:00Z; durations are microseconds.
-- 9223372036854775807 is "never"; a lease_expires_at of 0 is "lapsed at once".
CREATE TABLE oncekey_slots (
    id                  INTEGER PRIMARY KEY,
    principal           TEXT    NOT NULL,
    key                 TEXT    NOT NULL,
    state               TEXT    NOT NULL CHECK (state IN ('pending', 'completed', 'released')),
    fingerprint         BLOB    NOT NULL,
    token               BLOB    NOT NULL,
    fence               INTEGER NOT NULL,
    attempt             INTEGER NOT NULL,
    policy              TEXT    NOT NULL CHECK (policy IN ('take_over', 'refuse')),
    begun               INTEGER NOT NULL,
    retention           INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    lease_expires_at    INTEGER NOT NULL,
    completed_at        INTEGER,
    expires_at          INTEGER NOT NULL,
    checkpoint_sequence INTEGER NOT NULL, -- 0: none
    checkpoint          BLOB,
    status              INTEGER,
    headers             BLOB,
    body_length         INTEGER,          -- of a body that is not kept
    body                BLOB
) STRICT;

-- The full slot, compared byte for byte (S5): no digest, so nothing can collide, and an operator can read it.
CREATE UNIQUE INDEX oncekey_slots_slot ON oncekey_slots (principal, key);
