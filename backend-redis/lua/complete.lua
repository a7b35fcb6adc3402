#!lua flags=allow-oom
-- C1 to C5. The work is done: the answer is kept even when memory is full.
--   1  Stored, and the key ends with the record    3  Stored, and it lingers    the value  AlreadyStored
--   0  Lost, gone    2  Lost, taken over    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 fence and token, 2 the response, as it is stored, 3 spans of 8 bytes, in us: how long a key
-- stays at least and, if one is asked for, the retention, 4 the clock's offset in us, if any.
local key, offset = KEYS[1], ARGV[4] or 0
local value = redis.call('GET', key)
if not value then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + offset
if #value < 50 or value:byte(1) ~= 1 then
    return -1
end
-- As numbers: a string costs more, which the server hashes whole. 82 is R, 67 is C, 80 is P.
local state, expires, created, lease_end = struct.unpack('<BI8I8I8', value, 2)
-- C4: an expired record is Absent, deleted or not.
if expires <= now or state == 82 then
    return 0
end
-- Own is fence and token: the same token with another fence is somebody else's grant (S2).
if value:find(ARGV[1], 27, true) ~= 27 then
    return 2
end
-- C3
if state == 67 then
    return value
end
if state ~= 80 or #value < 107 then
    return -1
end

local linger = struct.unpack('<I8', ARGV[3])
-- C1: its end stays, and so does the key's, where that is the same one: 69 is E.
if #ARGV[3] == 8 and now < lease_end and now + linger <= expires and value:byte(87) == 69 then
    local new = struct.pack('<BBI8I8I8', 1, 67, expires, created, now) .. value:sub(27, 87) .. ARGV[2]
    redis.call('SET', key, new, 'KEEPTTL')
    return 1
end

-- But "never" ends.
if expires == 18446744073709551615 then
    expires = math.max(now, lease_end) + struct.unpack('<I8', value, 90)
end
if #ARGV[3] > 8 then
    -- C5
    expires = now + struct.unpack('<I8', ARGV[3], 9)
elseif lease_end <= now then
    -- C2
    expires = math.max(expires, now + struct.unpack('<I8', value, 90))
end
-- Whether the key ends with its record: then whoever finds it by GET knows that the record lives.
local stays, with, said = expires, 'E', 1
if expires < now + linger then
    stays, with, said = now + linger, 'L', 3
end
redis.call(
    'SET',
    key,
    struct.pack('<BBI8I8I8', 1, 67, expires, created, now) .. value:sub(27, 86) .. with .. ARGV[2],
    'PXAT',
    -- The last millisecond that it sees whole or in part: the server keeps a key through the one that is named.
    string.format('%d', (stays - offset - 1) / 1000)
)
return said
