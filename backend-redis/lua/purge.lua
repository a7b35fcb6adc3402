#!lua flags=allow-oom
-- O2: 1 where the record whose fence this is was deleted, whatever its state, else 0.
-- KEYS: the slot. ARGV: 1 the fence, 8 bytes.
if redis.call('GETRANGE', KEYS[1], 26, 33) ~= ARGV[1] then
    return 0
end
return redis.call('DEL', KEYS[1])
