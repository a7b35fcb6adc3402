-- Version 2: garbage collection finds what has expired without reading the rest (G1). complete keeps
-- expires_at as it is (C1), so the index is written once a record, at its end.
CREATE INDEX oncekey_slots_expires_at ON oncekey_slots (expires_at);
