-- The version of the schema that is there.
SELECT value FROM oncekey_meta WHERE name = 'schema_version'
