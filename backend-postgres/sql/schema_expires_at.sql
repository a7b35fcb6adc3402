-- G1: garbage collection finds what has expired without reading the rest. `complete` keeps expires_at as it
-- is (C1), so that its update stays on the page (HOT) and writes no index.
CREATE INDEX {expires_at_index} ON {slots} (expires_at);
