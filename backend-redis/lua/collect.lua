#!lua flags=allow-oom
-- G1: 1 where the record had expired and was deleted, else 0. KEYS: the slot. ARGV: 1 the clock's offset in us, if any.
local head = redis.call('GETRANGE', KEYS[1], 0, 49)
if #head < 50 or head:byte(1) ~= 1 then
    return 0
end
local time = redis.call('TIME')
if struct.unpack('<I8', head, 3) > time[1] * 1000000 + time[2] + (ARGV[1] or 0) then
    return 0
end
return redis.call('DEL', KEYS[1])
