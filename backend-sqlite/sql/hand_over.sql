-- W4: the holder steps back. Zero, not now: no step of the clock makes the lease live again.
-- ?1 principal, ?2 key, ?3 now, ?4 token, ?5 fence, ?6 checkpoint's sequence or 0, ?7 checkpoint
UPDATE oncekey_slots SET
    -- At most once and not begun: nothing is in doubt, so it is a release (L1).
    state = CASE WHEN policy = 'refuse' AND begun = 0 THEN 'released' ELSE state END,
    lease_expires_at = 0,
    checkpoint = CASE WHEN ?6 > checkpoint_sequence THEN ?7 ELSE checkpoint END,
    checkpoint_sequence = max(checkpoint_sequence, ?6)
WHERE principal = ?1 AND key = ?2 AND state = 'pending'
  AND token = ?4 AND fence = ?5
  AND expires_at > ?3
-- The sequence that is stored: a released record keeps no checkpoint.
RETURNING CASE WHEN state = 'released' THEN 0 ELSE checkpoint_sequence END
