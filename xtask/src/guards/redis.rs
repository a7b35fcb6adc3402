//! The clauses of Redis's scripts (`backend-redis/lua`).

use super::{Guard, guard};

const RESERVE: &str = "backend-redis/lua/reserve.lua";
const COMPLETE: &str = "backend-redis/lua/complete.lua";
const RENEW: &str = "backend-redis/lua/renew.lua";
const RELEASE: &str = "backend-redis/lua/release.lua";
const LOOKUP: &str = "backend-redis/lua/lookup.lua";
const RESOLVE: &str = "backend-redis/lua/resolve.lua";
const PURGE: &str = "backend-redis/lua/purge.lua";
const COLLECT: &str = "backend-redis/lua/collect.lua";

pub(super) const GUARDS: &[Guard] = &[
    guard(RESERVE, "if expires <= now then", "if false then"),
    guard(
        RESERVE,
        "if expires <= now then\n    return first(math.max(fence + 1, now))",
        "if expires <= now then\n    return first(now)",
    ),
    guard(
        RESERVE,
        "if value:sub(3, 18) == ARGV[1] then\n        return { 'S' }",
        "if false then\n        return { 'S' }",
    ),
    guard(RESERVE, "    end\n    return first(math.max(fence + 1, now))", "    end\n    return first(now)"),
    guard(RESERVE, "if value:sub(35, 66) ~= ARGV[2] then", "if false then"),
    guard(RESERVE, "if state == 'C' and expires > now and", "if state == 'C' and"),
    guard(RESERVE, "expires > now and value:sub(35, 66) == ARGV[2]", "expires > now"),
    guard(RESERVE, "if value:sub(3, 18) == ARGV[1] then\n    lease_end", "if false then\n    lease_end"),
    guard(RESERVE, "lease_end = math.max(lease_end, now + lease)", "lease_end = now + lease"),
    guard(RESERVE, "expires = math.max(expires, lease_end + kept)", "expires = lease_end + kept"),
    guard(RESERVE, "expires = math.max(expires, lease_end + kept)", "expires = expires"),
    guard(RESERVE, "    if never then\n        value", "    if false then\n        value"),
    guard(RESERVE, "if lease_end > now then", "if false then"),
    guard(RESERVE, "(refuse and value:byte(80) ~= 0) or ", ""),
    guard(RESERVE, " or (not refuse and ARGV[3] == 'R')", ""),
    guard(
        RESERVE,
        "if refuse then\n    retention = math.max(retention, kept)",
        "if false then\n    retention = math.max(retention, kept)",
    ),
    guard(
        RESERVE,
        "math.max(fence + 1, now), expires)\n    .. value:sub(35, 66)",
        "now, expires)\n    .. value:sub(35, 66)",
    ),
    guard(RESERVE, "math.min(attempt + 1, 4294967295)", "attempt"),
    guard(
        RESERVE,
        "expires = math.max(expires, now + lease + retention)",
        "expires = now + lease + retention",
    ),
    guard(RESERVE, ".. value:sub(71, 79)\n    .. '\\0'", ".. value:sub(71, 80)"),
    guard(
        RESERVE,
        ".. value:sub(97)\nput(value",
        ".. '\\0\\0\\0\\0\\0\\0\\0\\0' .. value:sub(105, 106 + struct.unpack('<I2', value, 105))\nput(value",
    ),
    guard(RESERVE, "1) + ARGV[7]", "1)"),
    guard(COMPLETE, "expires <= now or ", ""),
    guard(COMPLETE, " or state == 'R'", ""),
    guard(COMPLETE, "if value:sub(3, 26) ~= ARGV[1] then", "if value:sub(3, 18) ~= ARGV[1]:sub(1, 16) then"),
    guard(
        COMPLETE,
        "if value:sub(3, 26) ~= ARGV[1] then",
        "if value:sub(19, 26) ~= ARGV[1]:sub(17, 24) then",
    ),
    guard(COMPLETE, "if state == 'C' then\n    return value", "if state == 'C' then\n    return 1"),
    guard(COMPLETE, "if never then", "if false then"),
    guard(COMPLETE, "if ARGV[2] ~= '' then", "if false then"),
    guard(COMPLETE, "elseif lease_end <= now then", "elseif false then"),
    guard(COMPLETE, "math.max(ends, now + kept)", "now + kept"),
    guard(COMPLETE, "if ends == expires then", "if true then"),
    guard(COMPLETE, "1) + ARGV[4]", "1)"),
    guard(RENEW, "expires <= now or ", ""),
    guard(RENEW, " or state == 'R'", ""),
    guard(RENEW, "if value:sub(3, 26) ~= ARGV[1] then", "if value:sub(3, 18) ~= ARGV[1]:sub(1, 16) then"),
    guard(RENEW, "if value:sub(3, 26) ~= ARGV[1] then", "if value:sub(19, 26) ~= ARGV[1]:sub(17, 24) then"),
    guard(RENEW, "if state == 'C' then\n    return 1", "if state == 'C' then\n    return 2"),
    guard(RENEW, " and value:byte(80) == 0 then", " then"),
    guard(RENEW, "ARGV[2] == '' and refuse and", "ARGV[2] == '' and"),
    guard(
        RENEW,
        "if new_high > old_high or (new_high == old_high and new_low > old_low) then",
        "if true then",
    ),
    guard(RENEW, "new_high > old_high or ", ""),
    guard(
        RENEW,
        "value:sub(1, 88) .. '\\0\\0\\0\\0\\0\\0\\0\\0' .. tail",
        "value:sub(1, 88) .. struct.pack('<I8', now) .. tail",
    ),
    guard(RENEW, "lease_end = math.max(lease_end, now + ARGV[2])", "lease_end = now + ARGV[2]"),
    guard(RENEW, "value:sub(35, 79) .. '\\1' ..", "value:sub(35, 80) .."),
    guard(RENEW, "if refuse then", "if false then"),
    guard(RENEW, "expires = math.max(expires, lease_end + kept)", "expires = lease_end + kept"),
    guard(RENEW, "1) + ARGV[4]", "1)"),
    guard(RELEASE, "if expires <= now then", "if false then"),
    guard(RELEASE, "value:sub(3, 26) == ARGV[1]", "value:sub(3, 18) == ARGV[1]:sub(1, 16)"),
    guard(RELEASE, "value:sub(3, 26) == ARGV[1]", "value:sub(19, 26) == ARGV[1]:sub(17, 24)"),
    guard(RELEASE, "return own and 3 or 0", "return 0"),
    guard(RELEASE, "if state == 'C' then\n    return 1", "if state == 'C' then\n    return 2"),
    guard(RELEASE, "value:sub(79, 79) ~= 'R' and ", ""),
    guard(RELEASE, " and struct.unpack('<I4', value, 67) > 1", ""),
    guard(
        RELEASE,
        "value:sub(1, 88) .. '\\0\\0\\0\\0\\0\\0\\0\\0'",
        "value:sub(1, 88) .. struct.pack('<I8', now)",
    ),
    guard(
        RELEASE,
        "if value:sub(27, 34) == '\\255\\255\\255\\255\\255\\255\\255\\255' then",
        "if false then",
    ),
    guard(RELEASE, "1) + ARGV[3]", "1)"),
    guard(LOOKUP, " + ARGV[1], value }", ", value }"),
    guard(RESOLVE, "expires <= now or ", ""),
    guard(RESOLVE, " or value:sub(19, 26) ~= ARGV[1]", ""),
    guard(RESOLVE, "and value:sub(87) == ARGV[5]", "and true"),
    guard(RESOLVE, "return ARGV[5] == '' and 2 or 0", "return 0"),
    guard(RESOLVE, "if lease_end > now then", "if false then"),
    guard(RESOLVE, "if value:sub(89, 96) ~= ARGV[2] then", "if false then"),
    guard(
        RESOLVE,
        "if value:sub(27, 34) == '\\255\\255\\255\\255\\255\\255\\255\\255' then",
        "if false then",
    ),
    guard(RESOLVE, "if ARGV[6] ~= '' then", "if false then"),
    guard(RESOLVE, "expires = math.max(expires, now + kept)", "expires = expires"),
    guard(RESOLVE, "1) + ARGV[4]", "1)"),
    guard(PURGE, "if redis.call('GETRANGE', KEYS[1], 18, 25) ~= ARGV[1] then", "if false then"),
    guard(
        COLLECT,
        "if struct.unpack('<I8', head, 27) > time[1] * 1000000 + time[2] + ARGV[1] then",
        "if false then",
    ),
];
