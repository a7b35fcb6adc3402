-- O2: erasure of the record that was seen, whatever its state.
-- ?1 principal, ?2 key, ?3 fence
DELETE FROM oncekey_slots WHERE principal = ?1 AND key = ?2 AND fence = ?3
