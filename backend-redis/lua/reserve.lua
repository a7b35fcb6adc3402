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
-- KEYS: the slot. ARGV: 1 token, 2 fingerprint, 3 policy, 4 lease in us, 5 retention in us, 6 the clock's offset in
-- us, 7 how long a key outlives its record in ms, 8 the slot in full, 9 how long a new key stays in ms.
local value = redis.call('GET', KEYS[1])
-- S9: one reading, after which nothing else runs.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[6]

-- R1, on a slot that nobody has: the common case, in one go.
if not value then
    local bytes = struct.pack(
        '<BBc16I8I8c32I4I8c1BI8I8I8I2c0',
        1, 80, ARGV[1], now, now + ARGV[4] + ARGV[5], ARGV[2], 1, now, ARGV[3], 0, ARGV[5], now + ARGV[4], 0,
        #ARGV[8], ARGV[8]
    )
    redis.call('SET', KEYS[1], bytes, 'PX', ARGV[9])
    return now
end
if #value < 34 or value:byte(1) ~= 1 then
    return { '?' }
end

local state = value:sub(2, 2)
local fence, expires = struct.unpack('<I8I8', value, 19)
-- R9, what is asked for most of what is there.
if state == 'C' and expires > now and value:sub(35, 66) == ARGV[2] then
    return value
end

local lease, retention = tonumber(ARGV[4]), tonumber(ARGV[5])
local function put(new, ends)
    local rest = math.max(math.ceil((ends - now) / 1000), 1) + ARGV[7]
    redis.call('SET', KEYS[1], new, 'PX', string.format('%.0f', rest))
end

-- R1: the first attempt, above the fence that is remembered (S4).
local function first(above)
    local bytes = struct.pack(
        '<BBc16I8I8c32I4I8c1BI8I8I8I2c0',
        1, 80, ARGV[1], above, now + lease + retention, ARGV[2], 1, now, ARGV[3], 0, retention, now + lease, 0,
        #ARGV[8], ARGV[8]
    )
    redis.call('SET', KEYS[1], bytes, 'PX', ARGV[9])
    return above
end

-- R1: an expired record is Absent, deleted or not.
if expires <= now then
    return first(math.max(fence + 1, now))
end
if state == 'R' then
    -- R11
    if value:sub(3, 18) == ARGV[1] then
        return { 'S' }
    end
    return first(math.max(fence + 1, now))
end
if #value < (state == 'P' and 106 or 103) then
    return { '?' }
end
-- R2, before any token is compared.
if value:sub(35, 66) ~= ARGV[2] then
    return { 'X' }
end
if state ~= 'P' then
    return { '?' }
end

local kept, lease_end = struct.unpack('<I8I8', value, 81)
local never = value:sub(27, 34) == '\255\255\255\255\255\255\255\255'
-- R3: its own retry. A late one never shortens a lease that was acknowledged.
if value:sub(3, 18) == ARGV[1] then
    lease_end = math.max(lease_end, now + lease)
    local tail = value:sub(35, 88) .. struct.pack('<I8', lease_end) .. value:sub(97)
    if never then
        value = value:sub(1, 34) .. tail
        redis.call('SET', KEYS[1], value)
    else
        expires = math.max(expires, lease_end + kept)
        value = value:sub(1, 26) .. struct.pack('<I8', expires) .. tail
        put(value, expires)
    end
    return { 'G', value }
end
-- R4
if lease_end > now then
    return { 'W', lease_end - now }
end
-- R6: what the record's policy, or the caller's, doesn't let be taken over.
local refuse = value:sub(79, 79) == 'R'
if (refuse and value:byte(80) ~= 0) or (not refuse and ARGV[3] == 'R') then
    return { 'U', now, value }
end
-- R5
if refuse then
    retention = math.max(retention, kept)
end
local attempt = struct.unpack('<I4', value, 67)
expires = math.max(expires, now + lease + retention)
value = '\1P'
    .. ARGV[1]
    .. struct.pack('<I8I8', math.max(fence + 1, now), expires)
    .. value:sub(35, 66)
    .. struct.pack('<I4', math.min(attempt + 1, 4294967295))
    .. value:sub(71, 79)
    .. '\0'
    .. struct.pack('<I8I8', retention, now + lease)
    .. value:sub(97)
put(value, expires)
return { 'G', value }
