-- O2: erasure of the record that was seen, whatever its state.
-- $1 principal, $2 key, $3 fence, $4 lock timeout.
WITH purged AS (
    DELETE FROM {slots} AS s
    WHERE (SELECT set_config('lock_timeout', $4::text, true)) IS NOT NULL
        AND s.principal = $1::text AND s.key = $2::text AND s.fence = $3::bigint
    RETURNING 1
)
SELECT count(*) FROM purged
