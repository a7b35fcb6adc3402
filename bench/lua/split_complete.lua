#!lua flags=allow-oom
-- ARGV: 1 fence and token, 2 what follows the mark, 3 the body.
local key = KEYS[1]
local value = redis.call('HGET', key, 'head')
if not value then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if #value < 50 or value:byte(1) ~= 1 then
    return -1
end
local state, expires, created, lease_end = struct.unpack('<BI8I8I8', value, 2)
if expires <= now or state == 82 then
    return 0
end
if value:find(ARGV[1], 27, true) ~= 27 then
    return 2
end
if state ~= 80 or lease_end <= now then
    return redis.error_reply('only who holds the slot is measured')
end
local new = struct.pack('<BBI8I8I8', 1, 67, expires, created, now) .. value:sub(27, 87) .. ARGV[2]
redis.call('HSET', key, 'head', new, 'body', ARGV[3])
return 1
