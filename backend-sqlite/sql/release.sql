-- L1: given back; the row remembers its fence and token. L2: a later attempt under take-over leaves the
-- doubt about its predecessor, as a record that has lapsed at once.
-- ?1 principal, ?2 key, ?3 now, ?4 token, ?5 fence
UPDATE oncekey_slots SET
    state = CASE WHEN attempt = 1 OR policy = 'refuse' THEN 'released' ELSE state END,
    -- Leaving Pending, "never" ends.
    expires_at = CASE expires_at
        WHEN 9223372036854775807 THEN max(?3, lease_expires_at) + retention
        ELSE expires_at
    END,
    lease_expires_at = 0
WHERE principal = ?1 AND key = ?2 AND state = 'pending'
  AND token = ?4 AND fence = ?5
  AND expires_at > ?3
