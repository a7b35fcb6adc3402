-- The schema's version, in a table of its own: `user_version` belongs to whoever owns the file.
CREATE TABLE oncekey_meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT
