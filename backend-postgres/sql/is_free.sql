-- Whether the transaction that this is in began with it.
SELECT now() = statement_timestamp()
