#!lua
-- A hash of two fields: what precedes the body, packed as our store packs it, and the body. ARGV: 1 a new record from its
-- token on, 2 spans of 8 bytes, in us: the lease, lease and retention.
local key, new = KEYS[1], ARGV[1]
local lease, life = struct.unpack('<I8I8', ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ends = now + life
local first = struct.pack('<BBI8I8I8I8', 1, 80, ends, now, now + lease, now) .. new
if redis.call('HSETNX', key, 'head', first) == 1 then
    redis.call('PEXPIREAT', key, string.format('%d', (ends - 1) / 1000))
    return now
end
local got = redis.call('HMGET', key, 'head', 'body')
local value = got[1]
if #value < 50 or value:byte(1) ~= 1 then
    return { '?' }
end
if struct.unpack('<I8', value, 3) <= now then
    return redis.error_reply('a slot that is free again is not measured')
end
if value:sub(51, 82) ~= new:sub(17, 48) then
    return { 'X' }
end
if value:sub(2, 2) == 'C' then
    return got
end
return redis.error_reply('a slot that is held is not measured')
