-- W1: the holder is alive, and has begun.
-- ?1 principal, ?2 key, ?3 now, ?4 token, ?5 fence, ?6 lease, ?7 checkpoint's sequence or 0, ?8 checkpoint
UPDATE oncekey_slots SET
    begun = 1,
    -- A late renewal never shortens a lease that was acknowledged.
    lease_expires_at = max(lease_expires_at, ?3 + ?6),
    expires_at = CASE policy
        -- At most once: from here on only the holder or an operator ends it.
        WHEN 'refuse' THEN 9223372036854775807
        ELSE max(expires_at, max(lease_expires_at, ?3 + ?6) + retention)
    END,
    -- An older checkpoint, delayed, changes nothing.
    checkpoint = CASE WHEN ?7 > checkpoint_sequence THEN ?8 ELSE checkpoint END,
    checkpoint_sequence = max(checkpoint_sequence, ?7)
WHERE principal = ?1 AND key = ?2 AND state = 'pending'
  AND token = ?4 AND fence = ?5
  AND expires_at > ?3
RETURNING lease_expires_at, checkpoint_sequence
