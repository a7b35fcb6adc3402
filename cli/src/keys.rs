//! The suite's keys in a Redis deployment: under a prefix of their own, deleted at the end.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncekey_conformance::{BoxError, Harness, Namespace, ShiftTime, TimeControl};
use oncekey_core::{Token, async_trait};
use oncekey_redis::{ClockOffset, RedisStore, RedisStoreBuilder};

use crate::exit::{Exit, Trouble};
use crate::keyspace::Keyspace;

/// Keys that are the suite's alone.
#[derive(Debug)]
pub(crate) struct Keys {
    name: String,
    url: String,
    builder: RedisStoreBuilder,
    prefix: String,
    /// How many prefixes there are below it.
    count: AtomicU32,
}

impl Keys {
    /// Looks whether the server is there.
    pub(crate) async fn begin(keyspace: &Keyspace) -> Result<Self, Trouble> {
        keyspace.builder().connect(keyspace.url()).await.map_err(|error| Trouble::store(&error))?;
        let mut prefix = "oncekey-conformance-".to_owned();
        for byte in &Token::fresh().as_bytes()[..6] {
            let _ = write!(prefix, "{byte:02x}");
        }
        Ok(Self {
            name: format!("redis, {keyspace}, keys {prefix}:*"),
            url: keyspace.url().to_owned(),
            builder: keyspace.builder(),
            prefix,
            count: AtomicU32::new(0),
        })
    }

    /// Deletes what was made, and nothing else.
    pub(crate) async fn end(&self) -> Result<(), Trouble> {
        let store = self.builder.clone().prefix(&self.prefix).connect_lazy(&self.url);
        let deleted = match store {
            Ok(store) => store.delete_all_keys().await,
            Err(error) => Err(error),
        };
        deleted.map(drop).map_err(|error| {
            let message = format!("the suite's keys, {}:*, are left there: {error}", self.prefix);
            Trouble::new(Exit::StoreUnavailable, message)
        })
    }
}

struct Clock(ClockOffset);

impl ShiftTime for Clock {
    fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
    fn rewind(&self, by: Duration) -> bool {
        self.0.rewind(by);
        true
    }
}

#[async_trait]
impl Harness for Keys {
    fn name(&self) -> &str {
        &self.name
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let offset = ClockOffset::shiftable();
        let builder = self.builder.clone().prefix(format!("{}:{number}", self.prefix));
        let builder = builder.clock_offset(offset.clone());
        let url = self.url.clone();
        let connect = move || -> Result<_, BoxError> {
            let store: RedisStore = builder.clone().connect_lazy(&url)?;
            Ok(Arc::new(store) as _)
        };
        Ok(Namespace::new(TimeControl::Shift(Arc::new(Clock(offset))), connect))
    }
}
