#!lua flags=allow-oom
-- Q1: {now, value}, or nothing. It writes nothing, and doesn't say so: a replica runs what says no-writes, and answers
-- from a past. Like this it refuses, as a master does that became one.
-- KEYS: the slot. ARGV: 1 the last byte of the value, 2 the clock's offset in us, if any.
local value = redis.call('GETRANGE', KEYS[1], 0, ARGV[1])
if value == '' then
    return false
end
local time = redis.call('TIME')
return { time[1] * 1000000 + time[2] + (ARGV[2] or 0), value }
