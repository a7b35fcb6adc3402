-- The table that pgbench works on: the shape of oncekey's own, as lean as the contract allows, and as it is
-- laid out, with room for the completion on the page of the reservation.
CREATE TABLE slots (
    fence            bigint      NOT NULL,
    attempt          bigint      NOT NULL,
    created_at       timestamptz NOT NULL,
    lease_expires_at timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    completed_at     timestamptz,
    status           integer,
    token            uuid        NOT NULL,
    state            text        NOT NULL,
    principal        text        COLLATE "C" NOT NULL,
    key              text        COLLATE "C" NOT NULL,
    fingerprint      bytea       NOT NULL,
    body             bytea,
    PRIMARY KEY (principal, key)
) WITH (fillfactor = 50);
-- Expired records must be found without reading the others.
CREATE INDEX slots_expires_at ON slots (expires_at);
