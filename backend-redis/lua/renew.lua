#!lua flags=allow-oom
-- W1 to W4.
--   {left, sequence}  Renewed: the rest of the lease in us, and the stored checkpoint's number
--   1  AlreadyStored    0  Lost, gone    2  Lost, taken over    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 fence and token, 2 lease in us, or nothing to hand over, 3 how long a key stays at least in
-- ms, 4 a checkpoint's number (8 bytes, the highest first) or nothing, 5 its data, 6 the clock's offset in us, if any.
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
-- W3: an expired record is Absent, deleted or not.
if expires <= now or state == 'R' then
    return 0
end
-- S2
if value:sub(27, 50) ~= ARGV[1] then
    return 2
end
-- W2
if state == 'C' then
    return 1
end
if state ~= 'P' or #value < 107 then
    return -1
end

local size = struct.unpack('<I2', value, 106)
if #value < 107 + size then
    return -1
end
local NEVER = '\255\255\255\255\255\255\255\255'
local kept = struct.unpack('<I8', value, 90)
local refuse = value:sub(88, 88) == 'R'
local least = now + ARGV[3] * 1000
local function put(new, expiry)
    -- The last millisecond that it sees whole or in part: the server keeps a key through the one that is named.
    local last = (math.max(expiry, least) - (ARGV[6] or 0) - 1) / 1000
    redis.call('SET', KEYS[1], new, 'PXAT', string.format('%d', last))
end

-- W4 under `Refuse`, before it has begun: nothing is in doubt, and the slot is free.
if ARGV[2] == '' and refuse and value:byte(89) == 0 then
    if value:sub(3, 10) == NEVER then
        expires = math.max(now, lease_end) + kept
    end
    put('\1R' .. struct.pack('<I8', expires) .. value:sub(11, 50), expires)
    return { 0, '\0\0\0\0\0\0\0\0' }
end

-- W1: a checkpoint with a higher number replaces the stored one. Numbers in halves: a double has 53 bits.
local sequence, data = value:sub(98, 105), value:sub(108 + size)
if ARGV[4] ~= '' then
    local old_high, old_low = struct.unpack('>I4I4', sequence)
    local new_high, new_low = struct.unpack('>I4I4', ARGV[4])
    if new_high > old_high or (new_high == old_high and new_low > old_low) then
        sequence, data = ARGV[4], ARGV[5]
    end
end
local tail = sequence .. value:sub(106, 107 + size) .. data

-- W4: lapsed at once.
if ARGV[2] == '' then
    local lapsed = value:sub(1, 18) .. '\0\0\0\0\0\0\0\0' .. value:sub(27, 97) .. tail
    redis.call('SET', KEYS[1], lapsed, 'KEEPTTL')
    return { 0, sequence }
end

lease_end = math.max(lease_end, now + ARGV[2])
local before = value:sub(11, 18) .. struct.pack('<I8', lease_end) .. value:sub(27, 86)
local after = value:sub(88, 88) .. '\1' .. value:sub(90, 97) .. tail
if refuse then
    -- At most once: whoever began leaves an unknown, for ever. So does the key.
    redis.call('SET', KEYS[1], '\1P' .. NEVER .. before .. 'L' .. after)
else
    expires = math.max(expires, lease_end + kept)
    local mark = expires < least and 'L' or 'E'
    put('\1P' .. struct.pack('<I8', expires) .. before .. mark .. after, expires)
end
return { lease_end - now, sequence }
