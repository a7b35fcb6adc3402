//! A Redis deployment and a prefix of keys there, as a URL names them.

use std::fmt;

use oncekey_redis::{RedisStore, RedisStoreBuilder};
use url::form_urlencoded;

use crate::exit::Trouble;
use crate::secret::hidden;

/// Ours, beside the driver's.
const PREFIX: &str = "oncekey_prefix";
const EVICTION: &str = "oncekey_eviction";
/// What [`EVICTION`] may be: in words, that records may be lost.
const ACCEPTED: &str = "accepted";

/// The URL's schemes.
pub(crate) const SCHEMES: [&str; 11] = [
    "redis",
    "rediss",
    "redis+unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "valkey",
    "valkeys",
    "valkey+unix",
    "unix",
];

/// Where, and under which keys.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keyspace {
    /// For the driver: without our parameters. It may hold a password.
    url: String,
    prefix: Option<String>,
    may_evict: bool,
}

impl Keyspace {
    /// What a URL of one of [`SCHEMES`] says.
    pub(crate) fn parse(url: &str) -> Result<Self, Trouble> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let mut keyspace = Self { url: place.to_owned(), prefix: None, may_evict: false };
        let mut theirs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let Some((name, value)) = form_urlencoded::parse(part.as_bytes()).next() else { continue };
            match &*name {
                PREFIX => keyspace.prefix = Some(value.into_owned()),
                EVICTION if value == ACCEPTED => keyspace.may_evict = true,
                EVICTION => {
                    let message = format!("the store's URL: {EVICTION} may be {ACCEPTED}, or not be there");
                    return Err(Trouble::usage(message));
                }
                _ => theirs.push(part),
            }
        }
        if !theirs.is_empty() {
            keyspace.url = format!("{place}?{}", theirs.join("&"));
        }
        // Says whether all of it can be meant; nobody is connected to.
        keyspace.builder().connect_lazy(&keyspace.url).map_err(|error| Trouble::usage(error.to_string()))?;
        Ok(keyspace)
    }

    /// For the store alone: it may hold a password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A store there.
    pub(crate) fn builder(&self) -> RedisStoreBuilder {
        let mut builder = RedisStore::builder();
        if let Some(prefix) = &self.prefix {
            builder = builder.prefix(prefix);
        }
        if self.may_evict { builder.accept_eviction() } else { builder }
    }
}

/// Without the password.
impl fmt::Display for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hidden(&self.url))
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("url", &self.to_string()).field("prefix", &self.prefix).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_parameters_are_ours_and_the_rest_is_the_drivers() {
        let all =
            "redis+sentinel://u:p@h:1,i:2/main?oncekey_prefix=pay&protocol=resp3&oncekey_eviction=accepted";
        let keyspace = Keyspace::parse(all).unwrap();
        assert_eq!(keyspace.url, "redis+sentinel://u:p@h:1,i:2/main?protocol=resp3");
        assert_eq!((keyspace.prefix.as_deref(), keyspace.may_evict), (Some("pay"), true));
        assert!(!format!("{keyspace:?} {keyspace}").contains(":p@"));
        for url in [
            "redis://h?oncekey_eviction=yes",
            "redis://h?oncekey_prefix={a}",
            "redis+cluster://h",
            "redis+sentinel://h:1",
        ] {
            Keyspace::parse(url).unwrap_err();
        }
    }
}
