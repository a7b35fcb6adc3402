-- R5: the next holder of a lapsed record. reserve.sql ran before, in the same transaction, so the record
-- has not expired.
-- ?1 principal, ?2 key, ?3 now, ?4 fingerprint, ?5 token, ?6 policy, ?7 lease, ?8 retention
UPDATE oncekey_slots SET
    token = ?5,
    -- S4
    fence = max(fence + 1, ?3),
    attempt = min(attempt + 1, 4294967295),
    begun = 0,
    retention = CASE policy WHEN 'refuse' THEN max(retention, ?8) ELSE ?8 END,
    lease_expires_at = ?3 + ?7,
    -- Never earlier than it was.
    expires_at = max(expires_at, ?3 + ?7 + CASE policy WHEN 'refuse' THEN max(retention, ?8) ELSE ?8 END)
WHERE principal = ?1 AND key = ?2 AND state = 'pending'
  -- R2: another fingerprint is a conflict, lapsed or not.
  AND fingerprint = ?4
  -- R3: the holder's own retry is no takeover.
  AND token <> ?5
  -- R4, R8: a lease that is live, renewed a moment ago, stays.
  AND lease_expires_at <= ?3
  -- R5, R6: record and caller both take over; or at most once, and nothing was begun.
  AND CASE policy WHEN 'take_over' THEN ?6 = 'take_over' ELSE begun = 0 END
RETURNING fence, attempt, policy, checkpoint_sequence, checkpoint
