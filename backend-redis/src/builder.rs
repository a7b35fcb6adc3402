//! [`RedisStoreBuilder`]: keys, deadlines, and what is asked of the server.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use oncekey_core::{InvalidInput, Limits, StoreError};

use crate::address::Address;
use crate::link::{Link, Terms};
use crate::script::Scripts;
use crate::store::{RedisStore, Settings};

/// How a [`RedisStore`] is opened.
///
/// ```no_run
/// use oncekey_redis::RedisStore;
/// use std::time::Duration;
///
/// # async fn open() -> Result<(), oncekey_redis::StoreError> {
/// let store = RedisStore::builder()
///     .prefix("payments")
///     .call_deadline(Duration::from_secs(3))
///     .wait_for_replicas(1, Duration::from_millis(200))
///     .connect("redis+sentinel://s1:26379,s2:26379,s3:26379/main")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it opens nothing before `connect`"]
pub struct RedisStoreBuilder {
    prefix: String,
    limits: Limits,
    call_deadline: Duration,
    linger: Duration,
    wait: Option<Wait>,
    may_evict: bool,
    connections: Option<Arc<AtomicU64>>,
    #[cfg(feature = "test-util")]
    offset: ClockOffset,
    #[cfg(feature = "test-util")]
    script_folder: Option<std::path::PathBuf>,
}

/// Who else has to have a write before it is acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    /// Whether this server has to have it on its own disk.
    pub(crate) local: bool,
    pub(crate) replicas: u32,
    /// On disk too, and not in memory alone.
    pub(crate) on_disk: bool,
    pub(crate) within: Duration,
}

const NAME: &str = "connect";
/// So that a time in microseconds stays exact in a script's doubles.
const LINGER_MOST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// So that it can be added to a time, and be said in a server's milliseconds.
const DEADLINE_MOST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Default for RedisStoreBuilder {
    fn default() -> Self {
        Self {
            prefix: "oncekey".to_owned(),
            limits: Limits::default(),
            call_deadline: Duration::from_secs(10),
            linger: Duration::from_secs(10),
            wait: None,
            may_evict: false,
            connections: None,
            #[cfg(feature = "test-util")]
            offset: ClockOffset::default(),
            #[cfg(feature = "test-util")]
            script_folder: None,
        }
    }
}

impl RedisStoreBuilder {
    /// What its keys begin with, before a colon and the slot's digest: `oncekey` by default. Two stores of one
    /// prefix in one database are one.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What a response may be; 16 MiB by default.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long a call is tried, through lost connections and servers that start again; 10 s by default, at most ten
    /// years.
    ///
    /// A connection that owes answers and says nothing for 2 s counts as lost, and is made anew: or for longer, by a
    /// second for each MiB of the largest request that isn't answered, and while answers were seen to take long. A
    /// deadline that is shorter ends the call and not the connection.
    pub fn call_deadline(mut self, deadline: Duration) -> Self {
        self.call_deadline = deadline.min(DEADLINE_MOST);
        self
    }

    /// How long a key stays at least, from the last grant or write on, should its record expire before; 10 s by default,
    /// at most 100 years. Meanwhile it remembers its fence: fences rise though the server's clock stepped back by less
    /// (S4).
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger.min(LINGER_MOST);
        self
    }

    /// A write is acknowledged once so many replicas have it in memory. If they don't `within` that time it is tried again,
    /// and at the call's deadline, which has to be longer, it is an error
    /// ([`Unavailable`](oncekey_core::ErrorKind::Unavailable)) of unknown effect: written, on fewer machines. It narrows
    /// what a failover can lose, and can't close it: the replica that is promoted may be another.
    ///
    /// A server that waits does nothing else for the connection that asked. So these writes go by connections of their
    /// own, which are made as they are needed: 32 at most to a server. More writes at once wait for their turn. A
    /// reserve waits whatever it is answered, and so does a call that finds all done already; `lookup`, `scan` and `stats`
    /// don't.
    pub fn wait_for_replicas(mut self, replicas: u32, within: Duration) -> Self {
        self.wait = Some(Wait { local: false, replicas, on_disk: false, within });
        self
    }

    /// A write is acknowledged once it is on the disk of the server itself and of so many replicas, 0 or more; else as
    /// [`wait_for_replicas`](Self::wait_for_replicas). Needs Redis 7.2 and an append-only file: a server that can't wait
    /// writes, and then it is an error ([`Unsupported`](oncekey_core::ErrorKind::Unsupported)) of unknown effect.
    pub fn wait_for_disks(mut self, replicas: u32, within: Duration) -> Self {
        self.wait = Some(Wait { local: true, replicas, on_disk: true, within });
        self
    }

    /// Opens a server that may evict records to make room, or whose user may not ask it (INFO). Both are refused
    /// otherwise: the work of an evicted record is done again when its caller comes back, and its holder's completion is
    /// lost.
    pub fn accept_eviction(mut self) -> Self {
        self.may_evict = true;
        self
    }

    /// A clock of which a test says how far it is ahead of the server's.
    #[cfg(feature = "test-util")]
    pub fn clock_offset(mut self, offset: ClockOffset) -> Self {
        self.offset = offset;
        self
    }

    /// For tests: counts the connections that are made. On one server a call is made again on another connection alone.
    #[cfg(feature = "test-util")]
    pub fn counting_connections(mut self, count: Arc<AtomicU64>) -> Self {
        self.connections = Some(count);
        self
    }

    /// For tests of tests: a folder whose scripts replace those of the same name.
    #[cfg(feature = "test-util")]
    pub fn script_folder(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
        self.script_folder = Some(folder.into());
        self
    }

    /// Opens the store, and looks whether the server is there, is no replica, and may not evict records.
    ///
    /// ```text
    /// redis://[user:password@]host:port/database      rediss:// with TLS      redis+unix:///path
    /// redis+sentinel://host:port,host:port/master     redis+cluster://host:port,host:port
    /// ```
    ///
    /// `rediss+sentinel://` and `rediss+cluster://` are the same by TLS: whoever signed the certificates has to be trusted by
    /// the system, or named in `SSL_CERT_FILE`.
    ///
    /// User and password are the servers' own, in each of these. Those of the sentinels themselves, where they ask for any,
    /// come last, percent-encoded: `redis+sentinel://../master?sentinel_user=..&sentinel_password=..`.
    ///
    /// # Errors
    /// [`InvalidInput`](oncekey_core::ErrorKind::InvalidInput) for a URL or a setting that can't be meant,
    /// [`Unsupported`](oncekey_core::ErrorKind::Unsupported) for a server that may evict or won't say whether it may,
    /// or that is one of a cluster and opened as if it were alone;
    /// [`Unavailable`](oncekey_core::ErrorKind::Unavailable) for one that is a replica until the call's deadline, and
    /// whatever keeps the server from being reached by then.
    pub async fn connect(self, url: &str) -> Result<RedisStore, StoreError> {
        let store = self.connect_lazy(url)?;
        store.ping(NAME).await?;
        Ok(store)
    }

    /// As [`connect`](Self::connect), without looking at the server: it is first reached by the first call, and what
    /// is wrong with it is that call's error. Needs no await.
    ///
    /// # Errors
    /// [`InvalidInput`](oncekey_core::ErrorKind::InvalidInput) for a URL or a setting that can't be meant.
    pub fn connect_lazy(self, url: &str) -> Result<RedisStore, StoreError> {
        let address = self.check().and_then(|()| Address::parse(url)).map_err(|e| e.in_operation(NAME))?;
        let within = self.wait.as_ref().map(|wait| wait.within).unwrap_or_default();
        let terms = Terms { within, may_evict: self.may_evict, count: self.connections, ..Terms::default() };
        let link = Link::new(address, terms)
            .map_err(|failure| failure.into_error(NAME, oncekey_core::Effect::NotApplied))?;
        let settings = Settings {
            prefix: self.prefix,
            limits: self.limits,
            call_deadline: self.call_deadline,
            linger: self.linger,
            wait: self.wait,
            #[cfg(feature = "test-util")]
            offset: self.offset,
        };
        #[cfg(feature = "test-util")]
        let scripts = self.script_folder.map(|folder| {
            let text = |name: &str, own: &'static str| {
                let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|_| own.to_owned());
                if settings.wait.is_some() { crate::script::waited_for(name, text) } else { text }
            };
            Box::new(Scripts::of(text))
        });
        #[cfg(not(feature = "test-util"))]
        let scripts: Option<Box<Scripts>> = None;
        Ok(RedisStore::new(link, settings, scripts))
    }

    fn check(&self) -> Result<(), InvalidInput> {
        let prefix = &self.prefix;
        let odd = |c: char| c.is_control() || matches!(c, '{' | '}' | '*' | '?' | '[' | ']' | '\\');
        if prefix.is_empty() || prefix.len() > 64 || prefix.chars().any(odd) {
            return Err(InvalidInput::new(
                "a prefix has 1 to 64 bytes, without control characters and { } * ? [ ] \\, which mean something to \
                 a cluster or to a pattern",
            ));
        }
        if self.call_deadline.is_zero() {
            return Err(InvalidInput::new("a call's deadline of zero leaves it no time: give it some"));
        }
        if let Some(wait) = &self.wait {
            if wait.within.is_zero() || wait.within >= self.call_deadline {
                return Err(InvalidInput::new(
                    "what a write waits for needs some time, and less than the call's deadline",
                ));
            }
            if wait.replicas == 0 && !wait.local {
                return Err(InvalidInput::new("to wait for no replica is not to wait: name how many"));
            }
        }
        Ok(())
    }
}

/// What is added to the server's clock: nothing, but in tests.
#[cfg(feature = "test-util")]
#[derive(Clone, Default, Debug)]
pub struct ClockOffset(Arc<std::sync::atomic::AtomicI64>);

#[cfg(feature = "test-util")]
impl ClockOffset {
    /// An offset that can be moved; clones move together.
    #[must_use]
    pub fn shiftable() -> Self {
        Self::default()
    }

    /// Moves the store's clock, for all stores that share this offset.
    pub fn advance(&self, by: Duration) {
        self.shift(by, 1);
    }

    /// Moves it back. The server deletes keys by its own clock: let them [linger](RedisStoreBuilder::linger).
    pub fn rewind(&self, by: Duration) {
        self.shift(by, -1);
    }

    fn shift(&self, by: Duration, sign: i64) {
        let micros = i64::try_from(crate::value::span(by)).unwrap_or(i64::MAX);
        self.0.fetch_add(micros.saturating_mul(sign), std::sync::atomic::Ordering::SeqCst);
    }

    /// In microseconds.
    pub(crate) fn micros(&self) -> i64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}
