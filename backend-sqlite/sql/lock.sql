-- Takes the write lock and changes nothing: a transaction that was begun DEFERRED waits here, before the
-- clock is read (R10).
UPDATE oncekey_slots SET id = id WHERE 0
