-- O1: an operator found out that the work was not done. Released whatever the attempt.
-- ?1 principal, ?2 key, ?3 now, ?4 fence seen, ?5 lease's end seen
UPDATE oncekey_slots SET
    state = 'released',
    expires_at = CASE expires_at WHEN 9223372036854775807 THEN ?3 + retention ELSE expires_at END,
    lease_expires_at = 0
WHERE principal = ?1 AND key = ?2 AND state = 'pending'
  AND fence = ?4 AND lease_expires_at = ?5
  AND lease_expires_at <= ?3
  AND expires_at > ?3
