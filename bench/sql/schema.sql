-- The table of the limit and of the sqlx pool: the shape of oncekey's own, as lean as the contract allows.
CREATE TABLE slots (
    id               INTEGER PRIMARY KEY,
    principal        TEXT    NOT NULL,
    key              TEXT    NOT NULL,
    state            INTEGER NOT NULL, -- 0 pending, 1 completed
    fingerprint      BLOB    NOT NULL,
    token            BLOB    NOT NULL,
    fence            INTEGER NOT NULL,
    attempt          INTEGER NOT NULL,
    created_at       INTEGER NOT NULL, -- times are microseconds since 1970
    lease_expires_at INTEGER NOT NULL,
    completed_at     INTEGER,
    expires_at       INTEGER NOT NULL,
    status           INTEGER,
    body             BLOB,
    UNIQUE (principal, key)
);
-- Expired records must be found without reading the others.
CREATE INDEX slots_expires_at ON slots (expires_at);
