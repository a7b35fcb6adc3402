-- Q2: says to whoever settles that somebody listens, for as long as the connection lives. Nobody takes it
-- exclusively but for an instant.
SELECT pg_advisory_lock_shared(hashtextextended({channel_literal}, 0))
