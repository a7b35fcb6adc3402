-- W1: the holder is alive, and has begun.
-- $1 principals, $2 keys, $3 tokens, $4 fences, $5 leases in us, $6 checkpoints' sequences or 0,
-- $7 checkpoints, $8 the clock's offset in us, $9 lock timeout. The rows in the order of their slots, no slot
-- twice.
WITH input AS MATERIALIZED (
    SELECT i.*
    FROM (SELECT set_config('lock_timeout', $9::text, true) AS timeout) AS s,
        unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
            WITH ORDINALITY AS i (
                of_principal, of_key, own_token, own_fence, new_lease, new_sequence, new_checkpoint, n
            )
    WHERE s.timeout IS NOT NULL
),
-- The rows are locked in one order, by every statement, so that two batches can't deadlock; and the clock is
-- read once a row is locked: a lease counts from its write, however long it waited for the lock (R10).
locked AS MATERIALIZED (
    SELECT i.*, s.*
    FROM input AS i JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    ORDER BY s.principal, s.key
    FOR NO KEY UPDATE OF s
),
timed AS MATERIALIZED (
    SELECT l.*, clock_timestamp() + $8::bigint * interval '1 microsecond' AS now FROM locked AS l
),
decided AS MATERIALIZED (
    SELECT
        t.*,
        t.state = 'pending'
            -- Own is token and fence: the same token with another fence is somebody else's grant (S2).
            AND t.token = t.own_token
            AND t.fence = t.own_fence
            -- An expired record is Absent, deleted or not.
            AND t.expires_at > t.now AS applies
    FROM timed AS t
),
written AS (
    UPDATE {slots} AS s SET
        begun = true,
        -- A late renewal never shortens a lease that was acknowledged.
        lease_expires_at = greatest(d.lease_expires_at, d.now + d.new_lease * interval '1 microsecond'),
        expires_at = CASE d.policy
            -- At most once: from here on only the holder or an operator ends it.
            WHEN 'refuse' THEN 'infinity'
            ELSE greatest(
                d.expires_at,
                greatest(d.lease_expires_at, d.now + d.new_lease * interval '1 microsecond') + d.retention
            )
        END,
        -- An older checkpoint, delayed, changes nothing.
        checkpoint = CASE
            WHEN d.new_sequence > d.checkpoint_sequence THEN d.new_checkpoint ELSE d.checkpoint
        END,
        checkpoint_sequence = greatest(d.checkpoint_sequence, d.new_sequence)
    FROM decided AS d
    WHERE s.principal = d.of_principal AND s.key = d.of_key AND d.applies
    RETURNING d.n, true AS written, d.now, {record of s}
)
SELECT * FROM written
UNION ALL
-- Not written: what is there, under its lock.
SELECT d.n, false, d.now, {record of d}
FROM decided AS d
WHERE NOT d.applies
