-- One lock for all who make tables: stores of several tables may make one schema. Whoever waits for it does so for as
-- long as the call is tried, and not only for as long as a statement.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = {call_deadline};
SELECT pg_advisory_xact_lock(hashtextextended('oncekey/ensure_schema', 0))
