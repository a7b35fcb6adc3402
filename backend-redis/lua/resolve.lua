#!lua flags=allow-oom
-- O1.
--   1  Resolved    2  AlreadyDone    3  NotLapsed    0  Changed    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 the fence that was seen, 2 the lease's end that was seen, 8 bytes each, 3 the response as it
-- is stored, or nothing to release, 4 retention in us or nothing, 5 how long a key stays at least in ms, 6 the clock's
-- offset in us, if any.
local value = redis.call('GET', KEYS[1])
if not value then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + (ARGV[6] or 0)
if #value < 50 or value:byte(1) ~= 1 then
    return -1
end
local state = value:sub(2, 2)
local expires, _, lease_end = struct.unpack('<I8I8I8', value, 3)
if expires <= now or value:sub(27, 34) ~= ARGV[1] then
    return 0
end
-- S6: the same resolution stands already.
if state == 'C' then
    return (ARGV[3] ~= '' and value:sub(88) == ARGV[3]) and 2 or 0
end
if state == 'R' then
    return ARGV[3] == '' and 2 or 0
end
if state ~= 'P' or #value < 107 then
    return -1
end

if lease_end > now then
    return 3
end
if value:sub(19, 26) ~= ARGV[2] then
    return 0
end
local kept = struct.unpack('<I8', value, 90)
if value:sub(3, 10) == '\255\255\255\255\255\255\255\255' then
    expires = math.max(now, lease_end) + kept
end
if ARGV[3] ~= '' then
    -- As C2 and C5: it has lapsed.
    if ARGV[4] ~= '' then
        expires = now + ARGV[4]
    else
        expires = math.max(expires, now + kept)
    end
end
local least = now + ARGV[5] * 1000
local stays, with = expires, 'E'
if expires < least then
    stays, with = least, 'L'
end
local new
if ARGV[3] == '' then
    new = '\1R' .. struct.pack('<I8', expires) .. value:sub(11, 50)
else
    new = struct.pack('<BBI8', 1, 67, expires)
        .. value:sub(11, 18)
        .. struct.pack('<I8', now)
        .. value:sub(27, 86)
        .. with
        .. ARGV[3]
end
local offset = ARGV[6] or 0
redis.call('SET', KEYS[1], new, 'PXAT', string.format('%d', (stays - offset - 1) / 1000))
return 1
