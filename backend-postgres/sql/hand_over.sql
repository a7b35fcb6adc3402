-- W4: the holder steps back.
-- What is not the holder's isn't written, and isn't said: lookup.sql tells what is there instead.
-- $1 principals, $2 keys, $3 tokens, $4 fences, $5 checkpoints' sequences or 0, $6 checkpoints, $7 the clock's
-- offset in us, $8 lock timeout. The rows in the order of their slots, no slot twice.
WITH locked AS MATERIALIZED (
    SELECT i.*, s.state, s.token, s.fence, s.lease_expires_at, s.expires_at, s.policy, s.begun,
        s.checkpoint_sequence, s.checkpoint
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[])
            WITH ORDINALITY AS i (
                of_principal, of_key, own_token, own_fence, new_sequence, new_checkpoint, n
            )
        JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    WHERE (SELECT set_config('lock_timeout', $8::text, true)) IS NOT NULL
    -- Every statement locks its rows in one order, so that two batches can't deadlock.
    ORDER BY i.n
    FOR NO KEY UPDATE OF s
)
UPDATE {slots} AS s SET
    -- At most once and not begun: nothing is in doubt, so it is a release (L1).
    state = CASE WHEN t.policy = 'refuse' AND NOT t.begun THEN 'released' ELSE t.state END,
    -- Not now: no step of the clock makes the lease live again.
    lease_expires_at = '-infinity',
    checkpoint = CASE WHEN t.new_sequence > t.checkpoint_sequence THEN t.new_checkpoint ELSE t.checkpoint END,
    checkpoint_sequence = greatest(t.checkpoint_sequence, t.new_sequence)
FROM (
    -- The clock is read once a row is locked: a lease counts from its write, however long it waited (R10).
    SELECT l.*, clock_timestamp() + $7::bigint * interval '1 microsecond' AS now FROM locked AS l
) AS t
WHERE s.principal = t.of_principal AND s.key = t.of_key
    AND t.state = 'pending'
    -- Own is token and fence: the same token with another fence is somebody else's grant (S2).
    AND t.token = t.own_token
    AND t.fence = t.own_fence
    -- An expired record is Absent, deleted or not.
    AND t.expires_at > t.now
RETURNING
    t.n, t.now, s.lease_expires_at,
    -- The sequence that is stored: a released record keeps no checkpoint.
    CASE s.state WHEN 'released' THEN 0 ELSE s.checkpoint_sequence END
