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
-- KEYS: the slot. ARGV: 1 a new record from its token on, attempt 1, 2 spans of 8 bytes, in us: the lease, lease and
-- retention, how long a key stays at least, 3 the clock's offset in us, if any.
local key, new, offset = KEYS[1], ARGV[1], ARGV[3] or 0
local lease, life, linger = struct.unpack('<I8I8I8', ARGV[2])
-- S9: one reading.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + offset
local ends = now + life
local stays = ends
if life < linger then
    stays = now + linger
end
-- R1, on a slot that nobody has: written by the command that says what is there otherwise. The key stays for the last
-- millisecond that its record sees whole or in part: the server keeps a key through the one that is named.
local value = redis.call(
    'SET',
    key,
    struct.pack('<BBI8I8I8I8', 1, 80, ends, now, now + lease, now) .. new,
    'NX',
    'GET',
    'PXAT',
    string.format('%d', (stays - offset - 1) / 1000)
)
if not value then
    return now
end
if #value < 50 or value:byte(1) ~= 1 then
    return { '?' }
end

local state = value:sub(2, 2)
local expires, _, lease_end, fence = struct.unpack('<I8I8I8I8', value, 3)
-- A Pending record: what precedes its mark, whether the key ends with it, and what follows.
local function put(before, expiry, after)
    local last = math.max(expiry, now + linger)
    local mark = last == expiry and 'E' or 'L'
    value = '\1P' .. struct.pack('<I8', expiry) .. before .. mark .. after
    redis.call('SET', key, value, 'PXAT', string.format('%d', (last - offset - 1) / 1000))
end

-- R1: the first attempt, above the fence that is remembered (S4).
local function first(above)
    put(struct.pack('<I8I8I8', now, now + lease, above) .. new:sub(1, 52), ends, new:sub(54))
    return above
end

-- R1: an expired record is Absent, deleted or not.
if expires <= now then
    return first(math.max(fence + 1, now))
end
local token = new:sub(1, 16)
if state == 'R' then
    -- R11
    if value:sub(35, 50) == token then
        return { 'S' }
    end
    return first(math.max(fence + 1, now))
end
if #value < (state == 'P' and 107 or 104) then
    return { '?' }
end
-- R2, before any token is compared.
if value:sub(51, 82) ~= new:sub(17, 48) then
    return { 'X' }
end
-- R9
if state == 'C' then
    return value
end
if state ~= 'P' then
    return { '?' }
end

-- What is kept of it is written again.
if #value < 107 + struct.unpack('<I2', value, 106) then
    return { '?' }
end
local kept = struct.unpack('<I8', value, 90)
-- R3: its own retry. A late one never shortens a lease that was acknowledged.
if value:sub(35, 50) == token then
    lease_end = math.max(lease_end, now + lease)
    local before = value:sub(11, 18) .. struct.pack('<I8', lease_end) .. value:sub(27, 86)
    if value:sub(3, 10) == '\255\255\255\255\255\255\255\255' then
        value = value:sub(1, 10) .. before .. value:sub(87)
        redis.call('SET', key, value)
    else
        put(before, math.max(expires, lease_end + kept), value:sub(88))
    end
    return { 'G', value }
end
-- R4
if lease_end > now then
    return { 'W', lease_end - now }
end
-- R6: what the record's policy, or the caller's, doesn't let be taken over.
local refuse = value:sub(88, 88) == 'R'
if (refuse and value:byte(89) ~= 0) or (not refuse and new:sub(54, 54) == 'R') then
    return { 'U', now, value }
end
-- R5
local retention = life - lease
if refuse then
    retention = math.max(retention, kept)
end
lease_end = now + lease
local attempt = struct.unpack('<I4', value, 83)
put(
    value:sub(11, 18)
        .. struct.pack('<I8I8', lease_end, math.max(fence + 1, now))
        .. token
        .. value:sub(51, 82)
        .. struct.pack('<I4', math.min(attempt + 1, 4294967295)),
    math.max(expires, lease_end + retention),
    value:sub(88, 88) .. '\0' .. struct.pack('<I8', retention) .. value:sub(98)
)
return { 'G', value }
