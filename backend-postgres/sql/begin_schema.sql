-- One lock for all who make tables: stores of several tables may make one schema.
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT pg_advisory_xact_lock(hashtextextended('oncekey/ensure_schema', 0))
