-- ?1 version
INSERT INTO oncekey_meta (name, value) VALUES ('schema_version', ?1)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
