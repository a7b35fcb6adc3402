#!lua flags=allow-oom
-- C1 to C5. The work is done: the answer is kept even when memory is full.
--   1  Stored    the value  AlreadyStored    0  Lost, gone    2  Lost, taken over    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 token and fence, 2 retention in us or nothing, 3 the clock's offset in us, 4 how long a key
-- outlives its record in ms, 5 the response, as it is stored.
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
-- C4: an expired record is Absent, deleted or not.
if expires <= now or state == 'R' then
    return 0
end
-- Own is token and fence: the same token with another fence is somebody else's grant (S2).
if value:sub(3, 26) ~= ARGV[1] then
    return 2
end
-- C3
if state == 'C' then
    return value
end
if state ~= 'P' or #value < 106 then
    return -1
end

local kept, lease_end = struct.unpack('<I8I8', value, 81)
local never = value:sub(27, 34) == '\255\255\255\255\255\255\255\255'
local ends = expires
if never then
    -- Leaving Pending, "never" ends.
    ends = math.max(now, lease_end) + kept
end
if ARGV[2] ~= '' then
    -- C5
    ends = now + ARGV[2]
elseif lease_end <= now then
    -- C2
    ends = math.max(ends, now + kept)
end
if ends == expires then
    -- C1, as a rule: its end, whose request it is, its attempt and its begin stay as they are.
    local new = '\1C' .. ARGV[1] .. value:sub(27, 78) .. struct.pack('<I8', now) .. ARGV[5]
    redis.call('SET', KEYS[1], new, 'KEEPTTL')
else
    local new = '\1C'
        .. ARGV[1]
        .. struct.pack('<I8', ends)
        .. value:sub(35, 78)
        .. struct.pack('<I8', now)
        .. ARGV[5]
    local rest = math.max(math.ceil((ends - now) / 1000), 1) + ARGV[4]
    redis.call('SET', KEYS[1], new, 'PX', string.format('%.0f', rest))
end
return 1
