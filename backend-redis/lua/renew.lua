#!lua flags=allow-oom
-- W1 to W4.
--   {left, sequence}  Renewed: the rest of the lease in us, and the stored checkpoint's number
--   1  AlreadyStored    0  Lost, gone    2  Lost, taken over    -1  the value can't be read
-- KEYS: the slot. ARGV: 1 token and fence, 2 lease in us, or nothing to hand over, 3 the clock's offset in us, 4 how
-- long a key outlives its record in ms, 5 a checkpoint's number (8 bytes, the highest first) or nothing, 6 its data.
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
-- W3: an expired record is Absent, deleted or not.
if expires <= now or state == 'R' then
    return 0
end
-- S2
if value:sub(3, 26) ~= ARGV[1] then
    return 2
end
-- W2
if state == 'C' then
    return 1
end
if state ~= 'P' or #value < 106 then
    return -1
end

local NEVER = '\255\255\255\255\255\255\255\255'
local kept, lease_end = struct.unpack('<I8I8', value, 81)
local never = value:sub(27, 34) == NEVER
local refuse = value:sub(79, 79) == 'R'
local function put(new, ends)
    local rest = math.max(math.ceil((ends - now) / 1000), 1) + ARGV[4]
    redis.call('SET', KEYS[1], new, 'PX', string.format('%.0f', rest))
end

-- W4 under `Refuse`, before it has begun: nothing is in doubt, and the slot is free.
if ARGV[2] == '' and refuse and value:byte(80) == 0 then
    if never then
        expires = math.max(now, lease_end) + kept
    end
    put('\1R' .. ARGV[1] .. struct.pack('<I8', expires), expires)
    return { 0, '\0\0\0\0\0\0\0\0' }
end

-- W1: a checkpoint with a higher number replaces the stored one. Numbers in halves: a double has 53 bits.
local size = struct.unpack('<I2', value, 105)
local sequence, data = value:sub(97, 104), value:sub(107 + size)
if ARGV[5] ~= '' then
    local old_high, old_low = struct.unpack('>I4I4', sequence)
    local new_high, new_low = struct.unpack('>I4I4', ARGV[5])
    if new_high > old_high or (new_high == old_high and new_low > old_low) then
        sequence, data = ARGV[5], ARGV[6]
    end
end
local tail = sequence .. value:sub(105, 106 + size) .. data

-- W4: lapsed at once.
if ARGV[2] == '' then
    redis.call(
        'SET',
        KEYS[1],
        value:sub(1, 88) .. '\0\0\0\0\0\0\0\0' .. tail,
        'KEEPTTL'
    )
    return { 0, sequence }
end

lease_end = math.max(lease_end, now + ARGV[2])
local held = value:sub(35, 79) .. '\1' .. value:sub(81, 88) .. struct.pack('<I8', lease_end) .. tail
if refuse then
    -- At most once: whoever began leaves an unknown, for ever.
    redis.call('SET', KEYS[1], value:sub(1, 26) .. NEVER .. held)
else
    expires = math.max(expires, lease_end + kept)
    put(value:sub(1, 26) .. struct.pack('<I8', expires) .. held, expires)
end
return { lease_end - now, sequence }
