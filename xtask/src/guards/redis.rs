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
        "if value:sub(35, 50) == token then\n        return { 'S' }",
        "if false then\n        return { 'S' }",
    ),
    guard(RESERVE, "    end\n    return first(math.max(fence + 1, now))", "    end\n    return first(now)"),
    guard(RESERVE, "    'NX',\n", ""),
    guard(RESERVE, "if value:sub(51, 82) ~= ARGV[1]:sub(17, 48) then", "if false then"),
    guard(RESERVE, "if state == 'C' then\n    return value", "if false then\n    return value"),
    guard(RESERVE, "if value:sub(35, 50) == token then\n    lease_end", "if false then\n    lease_end"),
    guard(RESERVE, "lease_end = math.max(lease_end, now + ARGV[2])", "lease_end = now + ARGV[2]"),
    guard(RESERVE, "expires = math.max(expires, lease_end + kept)", "expires = lease_end + kept"),
    guard(RESERVE, "expires = math.max(expires, lease_end + kept)", "expires = expires"),
    guard(RESERVE, "if value:sub(3, 10) == '\\255\\255\\255\\255\\255\\255\\255\\255' then", "if false then"),
    guard(RESERVE, "if lease_end > now then", "if false then"),
    guard(RESERVE, "(refuse and value:byte(88) ~= 0) or ", ""),
    guard(RESERVE, " or (not refuse and ARGV[4] == 'R')", ""),
    guard(
        RESERVE,
        "if refuse then\n    retention = math.max(retention, kept)",
        "if false then\n    retention = math.max(retention, kept)",
    ),
    guard(RESERVE, "lease_end, math.max(fence + 1, now))", "lease_end, now)"),
    guard(RESERVE, "math.min(attempt + 1, 4294967295)", "attempt"),
    guard(RESERVE, "expires = math.max(expires, lease_end + retention)", "expires = lease_end + retention"),
    guard(RESERVE, ".. value:sub(87, 87)\n    .. '\\0'", ".. value:sub(87, 88)"),
    guard(
        RESERVE,
        ".. value:sub(97)\nput(value",
        ".. '\\0\\0\\0\\0\\0\\0\\0\\0' .. value:sub(105, 106 + struct.unpack('<I2', value, 105))\nput(value",
    ),
    guard(RESERVE, "math.max(ends, now + ARGV[6] * 1000)", "now + ARGV[6] * 1000"),
    guard(COMPLETE, "expires <= now or ", ""),
    guard(COMPLETE, " or state == 'R'", ""),
    guard(
        COMPLETE,
        "if value:sub(27, 50) ~= ARGV[1] then",
        "if value:sub(35, 50) ~= ARGV[1]:sub(9, 24) then",
    ),
    guard(COMPLETE, "if value:sub(27, 50) ~= ARGV[1] then", "if value:sub(27, 34) ~= ARGV[1]:sub(1, 8) then"),
    guard(COMPLETE, "if state == 'C' then\n    return value", "if state == 'C' then\n    return 1"),
    guard(
        COMPLETE,
        "if value:sub(3, 10) == '\\255\\255\\255\\255\\255\\255\\255\\255' then",
        "if false then",
    ),
    guard(COMPLETE, "if ARGV[4] ~= '' then", "if false then"),
    guard(COMPLETE, "elseif lease_end <= now then", "elseif false then"),
    guard(COMPLETE, "math.max(expires, now + struct", "(now + struct"),
    guard(COMPLETE, "if expires < least then", "if false then"),
    guard(COMPLETE, "stays, with, said = least, 'L', 3", "stays = least"),
    guard(RENEW, "expires <= now or ", ""),
    guard(RENEW, " or state == 'R'", ""),
    guard(RENEW, "if value:sub(27, 50) ~= ARGV[1] then", "if value:sub(35, 50) ~= ARGV[1]:sub(9, 24) then"),
    guard(RENEW, "if value:sub(27, 50) ~= ARGV[1] then", "if value:sub(27, 34) ~= ARGV[1]:sub(1, 8) then"),
    guard(RENEW, "if state == 'C' then\n    return 1", "if state == 'C' then\n    return 2"),
    guard(RENEW, " and value:byte(88) == 0 then", " then"),
    guard(RENEW, "ARGV[2] == '' and refuse and", "ARGV[2] == '' and"),
    guard(
        RENEW,
        "if new_high > old_high or (new_high == old_high and new_low > old_low) then",
        "if true then",
    ),
    guard(RENEW, "new_high > old_high or ", ""),
    guard(
        RENEW,
        "'\\0\\0\\0\\0\\0\\0\\0\\0' .. value:sub(27, 96)",
        "struct.pack('<I8', now) .. value:sub(27, 96)",
    ),
    guard(RENEW, "lease_end = math.max(lease_end, now + ARGV[2])", "lease_end = now + ARGV[2]"),
    guard(RENEW, "value:sub(27, 87) .. '\\1' ..", "value:sub(27, 88) .."),
    guard(RENEW, "if refuse then", "if false then"),
    guard(RENEW, "expires = math.max(expires, lease_end + kept)", "expires = lease_end + kept"),
    guard(RENEW, "math.max(ends, now + ARGV[3] * 1000)", "ends"),
    guard(RELEASE, "if expires <= now then", "if false then"),
    guard(RELEASE, "value:sub(27, 50) == ARGV[1]", "value:sub(35, 50) == ARGV[1]:sub(9, 24)"),
    guard(RELEASE, "value:sub(27, 50) == ARGV[1]", "value:sub(27, 34) == ARGV[1]:sub(1, 8)"),
    guard(RELEASE, "return own and 3 or 0", "return 0"),
    guard(RELEASE, "if state == 'C' then\n    return 1", "if state == 'C' then\n    return 2"),
    guard(RELEASE, "value:sub(87, 87) ~= 'R' and ", ""),
    guard(RELEASE, " and struct.unpack('<I4', value, 83) > 1", ""),
    guard(RELEASE, "'\\0\\0\\0\\0\\0\\0\\0\\0' .. value:sub(27)", "struct.pack('<I8', now) .. value:sub(27)"),
    guard(RELEASE, "if value:sub(3, 10) == '\\255\\255\\255\\255\\255\\255\\255\\255' then", "if false then"),
    guard(RELEASE, "math.max(expires, now + ARGV[2] * 1000)", "expires"),
    guard(LOOKUP, "#!lua flags=allow-oom", "#!lua flags=no-writes"),
    guard(LOOKUP, " + (ARGV[2] or 0), value }", ", value }"),
    guard(RESOLVE, "expires <= now or ", ""),
    guard(RESOLVE, " or value:sub(27, 34) ~= ARGV[1]", ""),
    guard(RESOLVE, "and value:sub(88) == ARGV[3]", "and true"),
    guard(RESOLVE, "return ARGV[3] == '' and 2 or 0", "return 0"),
    guard(RESOLVE, "if lease_end > now then", "if false then"),
    guard(RESOLVE, "if value:sub(19, 26) ~= ARGV[2] then", "if false then"),
    guard(RESOLVE, "if value:sub(3, 10) == '\\255\\255\\255\\255\\255\\255\\255\\255' then", "if false then"),
    guard(RESOLVE, "if ARGV[4] ~= '' then", "if false then"),
    guard(RESOLVE, "expires = math.max(expires, now + kept)", "expires = expires"),
    guard(RESOLVE, "if expires < least then", "if false then"),
    guard(PURGE, "if redis.call('GETRANGE', KEYS[1], 26, 33) ~= ARGV[1] then", "if false then"),
    guard(
        COLLECT,
        "if struct.unpack('<I8', head, 3) > time[1] * 1000000 + time[2] + (ARGV[1] or 0) then",
        "if false then",
    ),
];
