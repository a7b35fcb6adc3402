-- R1: reserves a slot that is Absent: no row, or an expired one that still lies there, or one Released by
-- another token. No row comes back when the slot is anything else.
-- ?1 principal, ?2 key, ?3 now, ?4 fingerprint, ?5 token, ?6 policy, ?7 lease, ?8 retention
INSERT INTO oncekey_slots (
    principal, key, state, fingerprint, token, fence, attempt, policy, begun, retention,
    created_at, lease_expires_at, expires_at, checkpoint_sequence
) VALUES (
    ?1, ?2, 'pending', ?4, ?5, ?3, 1, ?6, 0, ?8, ?3, ?3 + ?7, ?3 + ?7 + ?8, 0
)
ON CONFLICT (principal, key) DO UPDATE SET
    state = 'pending',
    fingerprint = excluded.fingerprint,
    token = excluded.token,
    -- S4: above the last fence, also when the clock stands still or steps back.
    fence = max(oncekey_slots.fence + 1, excluded.fence),
    attempt = 1,
    policy = excluded.policy,
    begun = 0,
    retention = excluded.retention,
    created_at = excluded.created_at,
    lease_expires_at = excluded.lease_expires_at,
    completed_at = NULL,
    expires_at = excluded.expires_at,
    checkpoint_sequence = 0,
    checkpoint = NULL,
    status = NULL,
    headers = NULL,
    body_length = NULL,
    body = NULL
WHERE oncekey_slots.expires_at <= ?3
   -- R11: the token that was released is spent.
   OR (oncekey_slots.state = 'released' AND oncekey_slots.token <> ?5)
RETURNING fence
