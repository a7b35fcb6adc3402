#!lua flags=allow-oom
-- C1 to C5. The work is done: the answer is kept even when memory is full.
--   1  Stored, and the key ends with the record    3  Stored, and it lingers    the value  AlreadyStored
--   0  Lost, gone    2  Lost, taken over    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 fence and token, 2 the response, as it is stored, 3 how long a key stays at least in ms,
-- 4 retention in us or nothing, 5 the clock's offset in us, if any.
local value = redis.call('GET', KEYS[1])
if not value then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + (ARGV[5] or 0)
if #value < 50 or value:byte(1) ~= 1 then
    return -1
end
local state = value:sub(2, 2)
local expires, _, lease_end = struct.unpack('<I8I8I8', value, 3)
-- C4: an expired record is Absent, deleted or not.
if expires <= now or state == 'R' then
    return 0
end
-- Own is fence and token: the same token with another fence is somebody else's grant (S2).
if value:sub(27, 50) ~= ARGV[1] then
    return 2
end
-- C3
if state == 'C' then
    return value
end
if state ~= 'P' or #value < 106 then
    return -1
end

-- C1: its end stays; but "never" ends.
if value:sub(3, 10) == '\255\255\255\255\255\255\255\255' then
    expires = math.max(now, lease_end) + struct.unpack('<I8', value, 89)
end
if ARGV[4] ~= '' then
    -- C5
    expires = now + ARGV[4]
elseif lease_end <= now then
    -- C2
    expires = math.max(expires, now + struct.unpack('<I8', value, 89))
end
-- Whether the key ends with its record: then whoever finds it by GET knows that the record lives.
local least = now + ARGV[3] * 1000
local stays, with, said = expires, 'E', 1
if expires < least then
    stays, with, said = least, 'L', 3
end
redis.call(
    'SET',
    KEYS[1],
    struct.pack('<BBI8', 1, 67, expires)
        .. value:sub(11, 18)
        .. struct.pack('<I8', now)
        .. value:sub(27, 86)
        .. with
        .. ARGV[2],
    'PXAT',
    -- The last millisecond that it sees whole or in part: the server keeps a key through the one that is named.
    string.format('%d', math.ceil((stays - (ARGV[5] or 0)) / 1000) - 1)
)
return said
