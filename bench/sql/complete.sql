-- ?1 principal, ?2 key, ?3 token, ?4 fence, ?5 now, ?6 status, ?7 body
UPDATE slots SET state = 1, completed_at = ?5, status = ?6, body = ?7
WHERE principal = ?1 AND key = ?2 AND state = 0 AND token = ?3 AND fence = ?4 AND expires_at > ?5
