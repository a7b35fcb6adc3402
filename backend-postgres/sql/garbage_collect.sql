-- G1: at most so many that had expired, and no other. G2: rows that somebody holds are left to the next time,
-- and nobody waits for this; one that is reserved anew meanwhile is looked at again once it is locked.
-- $1 at most, $2 the collection's clock, or null for its first batch, $3 the clock's offset in us.
WITH clock AS MATERIALIZED (
    SELECT coalesce($2::timestamptz, clock_timestamp() + $3::bigint * interval '1 microsecond') AS now
),
dead AS MATERIALIZED (
    SELECT s.principal, s.key
    FROM {slots} AS s
    WHERE s.expires_at <= (SELECT c.now FROM clock AS c)
    ORDER BY s.expires_at
    LIMIT $1::bigint
    FOR UPDATE OF s SKIP LOCKED
),
deleted AS (
    DELETE FROM {slots} AS s USING dead AS d
    WHERE s.principal = d.principal AND s.key = d.key
    RETURNING 1
)
SELECT (SELECT count(*) FROM deleted), (SELECT c.now FROM clock AS c)
