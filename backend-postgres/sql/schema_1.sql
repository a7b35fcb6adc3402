-- Version 1: the records.
--
-- Times are the server's, to the microsecond. `infinity` is "never"; a lease_expires_at of `-infinity` is
-- "lapsed at once", which no step of the clock undoes.
-- What has a fixed width stands first: rows are shorter so, and quicker to read.
-- COLLATE "C": keys are compared byte for byte (S5), whatever the database's language, and an index
-- survives an upgrade of the system's collations. Batches are in the same order.
CREATE TABLE {slots} (
    fence               bigint      NOT NULL,
    attempt             bigint      NOT NULL,
    created_at          timestamptz NOT NULL,
    lease_expires_at    timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    completed_at        timestamptz,
    retention           interval    NOT NULL,
    checkpoint_sequence bigint      NOT NULL, -- 0: none
    body_length         bigint,               -- of a body that is not kept
    status              integer,
    begun               boolean     NOT NULL,
    state               text        NOT NULL CHECK (state IN ('pending', 'completed', 'released')),
    policy              text        NOT NULL CHECK (policy IN ('take_over', 'refuse')),
    principal           text        COLLATE "C" NOT NULL,
    key                 text        COLLATE "C" NOT NULL,
    fingerprint         bytea       NOT NULL,
    token               bytea       NOT NULL,
    checkpoint          bytea,
    headers             bytea,
    body                bytea,
    PRIMARY KEY (principal, key)
) {storage};
