-- O1, as C2: an operator's answer for a holder that fell silent. The record keeps the holder's token, so
-- that its own late complete hears AlreadyStored.
-- ?1 principal, ?2 key, ?3 now, ?4 fence seen, ?5 lease's end seen, ?6 retention of the completion or null,
-- ?7 status, ?8 headers, ?9 length of a body that is not kept, ?10 body
UPDATE oncekey_slots SET
    state = 'completed',
    completed_at = ?3,
    expires_at = CASE
        WHEN ?6 IS NOT NULL THEN ?3 + ?6
        WHEN expires_at = 9223372036854775807 THEN ?3 + retention
        ELSE max(expires_at, ?3 + retention)
    END,
    checkpoint_sequence = 0,
    checkpoint = NULL,
    status = ?7,
    headers = ?8,
    body_length = ?9,
    body = ?10
WHERE principal = ?1 AND key = ?2 AND state = 'pending'
  AND fence = ?4 AND lease_expires_at = ?5
  AND lease_expires_at <= ?3
  AND expires_at > ?3
