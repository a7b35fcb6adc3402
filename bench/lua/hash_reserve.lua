#!lua
-- A hash, a field for each part of a record. ARGV: 1 token, 2 fingerprint, 3 lease, 4 lease and retention in us, 5 the
-- policy, 6 whose it is.
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local got = redis.call('HMGET', key, 'state', 'expires', 'fingerprint', 'token', 'lease', 'policy', 'begun')
if not got[1] then
    local ends = now + ARGV[4]
    local said = string.format('%d', now)
    redis.call(
        'HSET', key,
        'version', '1',
        'state', 'P',
        'expires', string.format('%d', ends),
        'created', said,
        'lease', string.format('%d', now + ARGV[3]),
        'fence', said,
        'token', ARGV[1],
        'fingerprint', ARGV[2],
        'attempt', '1',
        'policy', ARGV[5],
        'begun', '0',
        'retention', string.format('%d', ARGV[4] - ARGV[3]),
        'slot', ARGV[6]
    )
    redis.call('PEXPIREAT', key, string.format('%d', (ends - 1) / 1000))
    return now
end
if tonumber(got[2]) <= now or got[1] == 'R' then
    return redis.error_reply('a slot that is free again is not measured')
end
if got[3] ~= ARGV[2] then
    return { 'X' }
end
if got[1] == 'C' then
    return redis.call('HMGET', key, 'fence', 'token', 'attempt', 'created', 'completed', 'status', 'headers', 'body')
end
return redis.error_reply('a slot that is held is not measured')
