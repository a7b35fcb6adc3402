#!lua flags=allow-oom
-- L1 to L5.
--   3  Released    1  AlreadyStored    0  Lost, gone    2  Lost, taken over    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 token and fence, 2 the clock's offset in us, 3 how long a key outlives its record in ms.
local value = redis.call('GET', KEYS[1])
if not value then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[2]
if #value < 34 or value:byte(1) ~= 1 then
    return -1
end
local state = value:sub(2, 2)
local expires = struct.unpack('<I8', value, 27)
-- L5: an expired record is Absent, deleted or not.
if expires <= now then
    return 0
end
-- S2
local own = value:sub(3, 26) == ARGV[1]
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
if state ~= 'P' or #value < 106 then
    return -1
end

-- L2: the doubt about a predecessor stays, as a record that has lapsed at once.
if value:sub(79, 79) ~= 'R' and struct.unpack('<I4', value, 67) > 1 then
    local lapsed = value:sub(1, 88) .. '\0\0\0\0\0\0\0\0' .. value:sub(97)
    redis.call('SET', KEYS[1], lapsed, 'KEEPTTL')
    return 3
end
-- L1
if value:sub(27, 34) == '\255\255\255\255\255\255\255\255' then
    local kept, lease_end = struct.unpack('<I8I8', value, 81)
    expires = math.max(now, lease_end) + kept
end
local rest = math.max(math.ceil((expires - now) / 1000), 1) + ARGV[3]
redis.call(
    'SET',
    KEYS[1],
    '\1R' .. ARGV[1] .. struct.pack('<I8', expires),
    'PX',
    string.format('%.0f', rest)
)
return 3
