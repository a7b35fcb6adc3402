-- W4: the holder steps back.
-- $1 principals, $2 keys, $3 tokens, $4 fences, $5 checkpoints' sequences or 0, $6 checkpoints, $7 the clock's
-- offset in us, $8 lock timeout. The rows in the order of their slots, no slot twice.
WITH input AS MATERIALIZED (
    SELECT i.*
    FROM (SELECT set_config('lock_timeout', $8::text, true) AS timeout) AS s,
        unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[])
            WITH ORDINALITY AS i (
                of_principal, of_key, own_token, own_fence, new_sequence, new_checkpoint, n
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
    SELECT l.*, clock_timestamp() + $7::bigint * interval '1 microsecond' AS now FROM locked AS l
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
        -- At most once and not begun: nothing is in doubt, so it is a release (L1).
        state = CASE WHEN d.policy = 'refuse' AND NOT d.begun THEN 'released' ELSE d.state END,
        -- Not now: no step of the clock makes the lease live again.
        lease_expires_at = '-infinity',
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
