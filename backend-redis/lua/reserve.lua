#!lua
-- R1 to R6, R9, R11. What it answers:
--   a fence             Reserved, on a slot that was Absent: the common case, in one number
--   the value           Replay
--   {'G', value}        Reserved, with what is stored now
--   {'W', rest}         InFlight, for so many microseconds
--   {'X'}               Conflict
--   {'U', now, value}   Indeterminate
--   {'S'}               the token is spent
--   {'?'}               the value can't be read
-- KEYS: the slot. ARGV: 1 a new record from its token on, attempt 1, 2 lease in us, 3 lease and retention in us,
-- 4 the policy that is asked for, T or R, 5 how long a new key stays, 6 how long any key stays at least, both in ms,
-- 7 the clock's offset in us, if any.
-- S9: one reading.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + (ARGV[7] or 0)
-- R1, on a slot that nobody has: written by the command that says what is there otherwise.
local value = redis.call(
    'SET',
    KEYS[1],
    struct.pack('<BBI8I8I8I8', 1, 80, now + ARGV[3], now, now + ARGV[2], now) .. ARGV[1],
    'NX',
    'GET',
    'PX',
    ARGV[5]
)
if not value then
    return now
end
if #value < 50 or value:byte(1) ~= 1 then
    return { '?' }
end

local state = value:sub(2, 2)
local expires, _, lease_end, fence = struct.unpack('<I8I8I8I8', value, 3)
local function put(new, ends)
    local stays = math.max(ends, now + ARGV[6] * 1000) - (ARGV[7] or 0)
    redis.call('SET', KEYS[1], new, 'PXAT', string.format('%d', math.ceil(stays / 1000)))
end

-- R1: the first attempt, above the fence that is remembered (S4).
local function first(above)
    local ends = now + ARGV[3]
    put(struct.pack('<BBI8I8I8I8', 1, 80, ends, now, now + ARGV[2], above) .. ARGV[1], ends)
    return above
end

-- R1: an expired record is Absent, deleted or not.
if expires <= now then
    return first(math.max(fence + 1, now))
end
local token = ARGV[1]:sub(1, 16)
if state == 'R' then
    -- R11
    if value:sub(35, 50) == token then
        return { 'S' }
    end
    return first(math.max(fence + 1, now))
end
if #value < (state == 'P' and 106 or 104) then
    return { '?' }
end
-- R2, before any token is compared.
if value:sub(51, 82) ~= ARGV[1]:sub(17, 48) then
    return { 'X' }
end
-- R9
if state == 'C' then
    return value
end
if state ~= 'P' then
    return { '?' }
end

local kept = struct.unpack('<I8', value, 89)
-- R3: its own retry. A late one never shortens a lease that was acknowledged.
if value:sub(35, 50) == token then
    lease_end = math.max(lease_end, now + ARGV[2])
    local tail = value:sub(11, 18) .. struct.pack('<I8', lease_end) .. value:sub(27)
    if value:sub(3, 10) == '\255\255\255\255\255\255\255\255' then
        value = value:sub(1, 10) .. tail
        redis.call('SET', KEYS[1], value)
    else
        expires = math.max(expires, lease_end + kept)
        value = '\1P' .. struct.pack('<I8', expires) .. tail
        put(value, expires)
    end
    return { 'G', value }
end
-- R4
if lease_end > now then
    return { 'W', lease_end - now }
end
-- R6: what the record's policy, or the caller's, doesn't let be taken over.
local refuse = value:sub(87, 87) == 'R'
if (refuse and value:byte(88) ~= 0) or (not refuse and ARGV[4] == 'R') then
    return { 'U', now, value }
end
-- R5
local retention = ARGV[3] - ARGV[2]
if refuse then
    retention = math.max(retention, kept)
end
lease_end = now + ARGV[2]
expires = math.max(expires, lease_end + retention)
local attempt = struct.unpack('<I4', value, 83)
value = '\1P'
    .. struct.pack('<I8', expires)
    .. value:sub(11, 18)
    .. struct.pack('<I8I8', lease_end, math.max(fence + 1, now))
    .. token
    .. value:sub(51, 82)
    .. struct.pack('<I4', math.min(attempt + 1, 4294967295))
    .. value:sub(87, 87)
    .. '\0'
    .. struct.pack('<I8', retention)
    .. value:sub(97)
put(value, expires)
return { 'G', value }
