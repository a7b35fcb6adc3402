-- The version of the schema that is there.
SELECT value::text FROM {meta} WHERE name = 'schema_version'
