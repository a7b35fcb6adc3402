//! [`Script`]: the Lua that decides, and the command that runs it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use redis::Cmd;
use sha1::{Digest, Sha1};

/// Room for the arguments of most calls, and for their bytes.
const ARGUMENTS: usize = 12;
const BYTES: usize = 512;

/// A script, known to the server by its digest.
#[derive(Debug)]
pub(crate) struct Script {
    text: String,
    sha: String,
}

impl Script {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let mut sha = String::with_capacity(40);
        for byte in Sha1::digest(&text) {
            let _ = write!(sha, "{byte:02x}");
        }
        Self { text, sha }
    }

    /// By its digest. A server that doesn't know it says NOSCRIPT.
    pub(crate) fn on(&self, key: &str) -> Cmd {
        let mut cmd = Cmd::with_capacity(ARGUMENTS, BYTES);
        cmd.arg("EVALSHA").arg(&self.sha).arg("1").arg(key);
        cmd
    }

    /// By its text, which the server keeps: to be sent where the digest was unknown.
    pub(crate) fn in_full(&self, key: &str) -> Cmd {
        let mut cmd = Cmd::new();
        cmd.arg("EVAL").arg(&self.text).arg("1").arg(key);
        cmd
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) reserve: Script,
    pub(crate) complete: Script,
    pub(crate) renew: Script,
    pub(crate) release: Script,
    pub(crate) lookup: Script,
    pub(crate) resolve: Script,
    pub(crate) purge: Script,
    pub(crate) collect: Script,
}

impl Scripts {
    /// Each of what `text` makes of its file's name and its contents.
    pub(crate) fn of(text: impl Fn(&str, &'static str) -> String) -> Self {
        let script = |name: &str, own: &'static str| Script::new(text(name, own));
        Self {
            reserve: script("reserve.lua", include_str!("../lua/reserve.lua")),
            complete: script("complete.lua", include_str!("../lua/complete.lua")),
            renew: script("renew.lua", include_str!("../lua/renew.lua")),
            release: script("release.lua", include_str!("../lua/release.lua")),
            lookup: script("lookup.lua", include_str!("../lua/lookup.lua")),
            resolve: script("resolve.lua", include_str!("../lua/resolve.lua")),
            purge: script("purge.lua", include_str!("../lua/purge.lua")),
            collect: script("collect.lua", include_str!("../lua/collect.lua")),
        }
    }
}

/// As they are.
pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts::of(|_, own| own.to_owned()));

/// For a store whose writes wait for others.
pub(crate) static WAITED_FOR: LazyLock<Scripts> =
    LazyLock::new(|| Scripts::of(|name, own| waited_for(name, own.to_owned())));

/// Of a key that is there, without changing it; and of one that isn't, which begins with what a user may not be allowed:
/// nothing was done then.
const OF_WHAT_IS_THERE: &str = "redis.call('APPEND', KEYS[1], '')";
const OF_NOTHING: &str =
    "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '') redis.call('DEL', KEYS[1])";

/// What WAIT waits for is what its connection wrote last, on later servers than Redis 7.0. A repeat finds all as it is to
/// be and writes nothing, though perhaps nobody else has that: so such a script begins with a write that changes nothing.
pub(crate) fn waited_for(name: &str, text: String) -> String {
    let of_nothing = match name {
        "complete.lua" | "renew.lua" | "release.lua" | "resolve.lua" | "purge.lua" => OF_NOTHING,
        // It writes itself, then.
        "reserve.lua" => "",
        // They find out, and delete what has expired.
        _ => return text,
    };
    // The first line is for the server, and stays the first.
    let (flags, body) = text.split_once('\n').unwrap_or(("", &text));
    format!(
        "{flags}\nif redis.call('GETRANGE', KEYS[1], 0, 0) ~= '' then {OF_WHAT_IS_THERE} else {of_nothing} end\n{body}"
    )
}
