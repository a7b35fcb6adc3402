#!lua flags=allow-oom
-- ARGV: 1 fence, 2 token, 3 status, 4 headers, 5 body.
local key = KEYS[1]
local got = redis.call('HMGET', key, 'state', 'expires', 'fence', 'token', 'lease')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if not got[1] or tonumber(got[2]) <= now or got[1] == 'R' then
    return 0
end
if got[3] ~= ARGV[1] or got[4] ~= ARGV[2] then
    return 2
end
if got[1] ~= 'P' or tonumber(got[5]) <= now then
    return redis.error_reply('only who holds the slot is measured')
end
redis.call(
    'HSET', key,
    'state', 'C',
    'completed', string.format('%d', now),
    'status', ARGV[3],
    'headers', ARGV[4],
    'body', ARGV[5]
)
return 1
