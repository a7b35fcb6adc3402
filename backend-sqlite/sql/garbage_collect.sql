-- G1: at most so many that have expired, the oldest first, and no other.
-- ?1 now, ?2 limit
DELETE FROM oncekey_slots WHERE id IN (
    SELECT id FROM oncekey_slots WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
)
