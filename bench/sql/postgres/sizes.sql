-- A table as cells: records, bytes of the heap and of the indexes a record, and how many updates wrote no index.
SELECT format(
    '%s | %s | %s | %s %%',
    n, pg_relation_size('{slots}') / n, pg_indexes_size('{slots}') / n,
    (SELECT round(100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1), 1) FROM pg_stat_user_tables WHERE relname = '{slots}')
)
FROM (SELECT greatest(count(*), 1) AS n FROM {slots}) AS counted
