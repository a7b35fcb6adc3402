#!lua flags=allow-oom
-- L1 to L5.
--   3  Released    1  AlreadyStored    0  Lost, gone    2  Lost, taken over    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 fence and token, 2 how long a key stays at least in ms, 3 the clock's offset in us, if any.
local value = redis.call('GET', KEYS[1])
if not value then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + (ARGV[3] or 0)
if #value < 50 or value:byte(1) ~= 1 then
    return -1
end
local state = value:sub(2, 2)
local expires, _, lease_end = struct.unpack('<I8I8I8', value, 3)
-- L5: an expired record is Absent, deleted or not.
if expires <= now then
    return 0
end
-- S2
local own = value:sub(27, 50) == ARGV[1]
if state == 'R' then
    -- L4
    return own and 3 or 0
end
if not own then
    return 2
end
-- L3
if state == 'C' then
    return 1
end
if state ~= 'P' or #value < 107 then
    return -1
end

-- L2: the doubt about a predecessor stays, as a record that has lapsed at once.
if value:sub(88, 88) ~= 'R' and struct.unpack('<I4', value, 83) > 1 then
    redis.call('SET', KEYS[1], value:sub(1, 18) .. '\0\0\0\0\0\0\0\0' .. value:sub(27), 'KEEPTTL')
    return 3
end
-- L1
if value:sub(3, 10) == '\255\255\255\255\255\255\255\255' then
    expires = math.max(now, lease_end) + struct.unpack('<I8', value, 90)
end
local stays = math.max(expires, now + ARGV[2] * 1000) - (ARGV[3] or 0)
redis.call(
    'SET',
    KEYS[1],
    '\1R' .. struct.pack('<I8', expires) .. value:sub(11, 50),
    'PXAT',
    string.format('%d', (stays - 1) / 1000)
)
return 3
