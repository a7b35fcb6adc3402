#!lua flags=allow-oom
-- O1.
--   1  Resolved    2  AlreadyDone    3  NotLapsed    0  Changed    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 the fence that was seen, 2 the lease's end that was seen, 8 bytes each, 3 the clock's offset
-- in us, 4 how long a key outlives its record in ms, 5 the response as it is stored, or nothing to release,
-- 6 retention in us or nothing.
local value = redis.call('GET', KEYS[1])
if not value then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[3]
if #value < 34 or value:byte(1) ~= 1 then
    return -1
end
local state = value:sub(2, 2)
local expires = struct.unpack('<I8', value, 27)
if expires <= now or value:sub(19, 26) ~= ARGV[1] then
    return 0
end
-- S6: the same resolution stands already.
if state == 'C' then
    return (ARGV[5] ~= '' and value:sub(87) == ARGV[5]) and 2 or 0
end
if state == 'R' then
    return ARGV[5] == '' and 2 or 0
end
if state ~= 'P' or #value < 106 then
    return -1
end

local kept, lease_end = struct.unpack('<I8I8', value, 81)
if lease_end > now then
    return 3
end
if value:sub(89, 96) ~= ARGV[2] then
    return 0
end
if value:sub(27, 34) == '\255\255\255\255\255\255\255\255' then
    expires = math.max(now, lease_end) + kept
end
local head = value:sub(3, 26)
local new
if ARGV[5] == '' then
    new = '\1R' .. head .. struct.pack('<I8', expires)
else
    -- As C2 and C5: it has lapsed.
    if ARGV[6] ~= '' then
        expires = now + ARGV[6]
    else
        expires = math.max(expires, now + kept)
    end
    new = '\1C'
        .. head
        .. struct.pack('<I8', expires)
        .. value:sub(35, 78)
        .. struct.pack('<I8', now)
        .. ARGV[5]
end
local rest = math.max(math.ceil((expires - now) / 1000), 1) + ARGV[4]
redis.call('SET', KEYS[1], new, 'PX', string.format('%.0f', rest))
return 1
