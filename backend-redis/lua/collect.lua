#!lua flags=allow-oom
-- G1: 1 where the record had expired and was deleted, else 0. KEYS: the slot. ARGV: 1 the clock's offset in us.
local head = redis.call('GETRANGE', KEYS[1], 0, 33)
if #head < 34 or head:byte(1) ~= 1 then
    return 0
end
local time = redis.call('TIME')
if struct.unpack('<I8', head, 27) > time[1] * 1000000 + time[2] + ARGV[1] then
    return 0
end
return redis.call('DEL', KEYS[1])
