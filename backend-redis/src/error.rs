//! What a failure of the driver or the server means: what kind of thing it is, whether the script may have had an
//! effect, and whether it is worth another try.

use std::error::Error;
use std::sync::Arc;

use oncekey_core::{Effect, ErrorKind, StoreError};
use redis::RedisError;

use crate::topology::{At, HashSlot};

/// A failed try of a command.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) effect: Effect,
    pub(crate) next: Next,
    /// Whether the connection may be used again.
    pub(crate) broken: bool,
    message: String,
    source: Option<RedisError>,
}

/// What to do after a failed try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// It may pass: the same again, within the deadline (S6).
    Retry,
    /// The server doesn't know the script's digest: the same in full.
    InFull,
    /// Memory is full: what writes nothing may be asked all the same.
    Full,
    /// It won't pass.
    Give,
}

/// To another server: this one has the slot no more, or not all of it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct SentOn {
    pub(crate) slot: HashSlot,
    /// Unless it doesn't say.
    pub(crate) to: Option<At>,
    /// Or else it is moving, and the other one is to be asked this once.
    pub(crate) is_moved: bool,
}

impl Failure {
    fn new(kind: ErrorKind, effect: Effect, next: Next, message: impl Into<String>) -> Self {
        Self { kind, effect, next, broken: false, message: message.into(), source: None }
    }

    fn because(mut self, source: RedisError) -> Self {
        self.source = Some(source);
        self
    }

    fn broken(mut self) -> Self {
        self.broken = true;
        self
    }

    /// What can't be changed by trying again.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, Effect::NotApplied, Next::Give, message)
    }

    /// No connection could be had: nothing was sent.
    pub(crate) fn no_connection(error: RedisError) -> Self {
        let refused = error.kind() == redis::ErrorKind::AuthenticationFailed;
        let (kind, next, message) = match error.code() {
            _ if refused => {
                let message =
                    "the server refuses who asks: there is no such user, or the password is another";
                (ErrorKind::Other, Next::Give, message.to_owned())
            }
            Some("LOADING" | "BUSY" | "MASTERDOWN") => {
                let message = format!("the server isn't ready: {}", text(&error));
                (ErrorKind::Unavailable, Next::Retry, message)
            }
            Some(_) => (ErrorKind::Other, Next::Give, format!("the server refuses: {}", text(&error))),
            None if is_of_certificate(&error) => {
                let message = format!(
                    "the server's certificate isn't trusted: {}. If who signed it isn't known here, let the system trust \
                     them, or name a file with theirs in SSL_CERT_FILE",
                    text(&error)
                );
                (ErrorKind::Other, Next::Give, message)
            }
            None => {
                let message = format!("the server can't be reached: {}", text(&error));
                (ErrorKind::Unavailable, Next::Retry, message)
            }
        };
        Self::new(kind, Effect::NotApplied, next, message).because(error)
    }

    /// It was the master a moment ago, or never was: what it would say is a past.
    pub(crate) fn replica(error: Option<RedisError>) -> Self {
        let message = "this is a replica: point the URL at the master, or at the sentinels that know it";
        Self::new(ErrorKind::Unavailable, Effect::NotApplied, Next::Retry, message).broken().from(error)
    }

    /// A cluster's server, which was opened as if it were alone.
    pub(crate) fn one_of_several(error: Option<RedisError>) -> Self {
        let message = "the server is one of a cluster: open it by redis+cluster://host:port,..";
        Self::unsupported(message).from(error)
    }

    /// A key may be on a server that was read already.
    pub(crate) fn moving() -> Self {
        let message = "slots are being moved between the cluster's masters, and a key in between may be missed: ask \
            again when they have moved (CLUSTER NODES shows them in brackets, and redis-cli --cluster fix ends what was \
            left half-way)";
        Self::new(ErrorKind::Unavailable, Effect::NotApplied, Next::Give, message)
    }

    /// What the server said is told too.
    fn from(mut self, error: Option<RedisError>) -> Self {
        if let Some(error) = error {
            self.message = format!("{} ({})", self.message, text(&error));
            self.source = Some(error);
        }
        self
    }

    /// In words.
    pub(crate) fn said(self) -> String {
        self.message
    }

    /// Nor by the deadline.
    pub(crate) fn no_connection_yet() -> Self {
        let message = "no connection could be had in time: is the server down, or a network in between?";
        Self::new(ErrorKind::Timeout, Effect::NotApplied, Next::Retry, message)
    }

    /// It may be later, or another may have its slots.
    pub(crate) fn no_member() -> Self {
        let message = "the server is in no cluster: open it by redis://, or let it join one";
        Self::new(ErrorKind::Unavailable, Effect::NotApplied, Next::Retry, message)
    }

    /// Nothing was sent.
    pub(crate) fn unreached() -> Self {
        let message = "the cluster's server that has this can't be reached, and no other has it yet";
        Self::new(ErrorKind::Unavailable, Effect::NotApplied, Next::Retry, message)
    }

    /// As many writes wait for others as may.
    pub(crate) fn no_turn() -> Self {
        let message = "too many writes wait for replicas or disks, and this one's turn did not come in time";
        Self::new(ErrorKind::Timeout, Effect::NotApplied, Next::Retry, message)
    }

    /// This; or the one before it, where this says no more than that the time was over.
    pub(crate) fn unless_late(self, before: Option<Self>) -> Self {
        match before {
            Some(before) if self.kind == ErrorKind::Timeout => before,
            _ => self,
        }
    }

    /// The server may do it yet.
    pub(crate) fn no_answer() -> Self {
        let message = "the server did not answer in time";
        Self::new(ErrorKind::Timeout, Effect::Unknown, Next::Retry, message)
    }

    /// It was written, and is on fewer machines than was asked for.
    pub(crate) fn too_few(asked: &str, had: i64) -> Self {
        let message =
            format!("written, but not acknowledged as asked for: {asked}, and {had} did within the time");
        Self::new(ErrorKind::Unavailable, Effect::Unknown, Next::Retry, message)
    }

    /// What came back is no answer of the script's.
    pub(crate) fn nonsense() -> Self {
        let message = "the server answered something else than the script does: what is in between?";
        Self::new(ErrorKind::Other, Effect::Unknown, Next::Give, message).broken()
    }

    /// A command was sent, and failed. A script writes last, and what the server says against it comes before it
    /// has written; but a lost connection leaves its effect unknown.
    pub(crate) fn of(error: RedisError) -> Self {
        let Some(code) = error.code().map(ToOwned::to_owned) else {
            let message = format!("the connection was lost: {}", text(&error));
            let failure = Self::new(ErrorKind::Unavailable, Effect::Unknown, Next::Retry, message);
            return failure.broken().because(error);
        };
        let said = text(&error);
        let (kind, next, broken, message) = match &*code {
            "NOSCRIPT" => (ErrorKind::Unavailable, Next::InFull, false, said),
            "OOM" => {
                let message = format!("the server's memory is full, and it may not forget: {said}");
                (ErrorKind::Unavailable, Next::Full, false, message)
            }
            // Starting up, cut off, in a script that doesn't end, unable to save, short of replicas.
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "MISCONF" | "NOREPLICAS" => {
                (ErrorKind::Unavailable, Next::Retry, false, format!("the server can't write now: {said}"))
            }
            "READONLY" | "UNBLOCKED" => return Self::replica(Some(error)),
            "MOVED" | "ASK" | "CROSSSLOT" => return Self::one_of_several(Some(error)),
            "WRONGTYPE" => {
                let message = format!("a key of this prefix is somebody else's: {said}");
                (ErrorKind::Corrupt, Next::Give, false, message)
            }
            "NOAUTH" | "WRONGPASS" | "NOPERM" => {
                let message = format!("the server refuses who asks: {said}");
                (ErrorKind::Other, Next::Give, false, message)
            }
            _ if said.contains("Unknown script flag") || said.contains("unexpected symbol near '#'") => {
                let message = format!("Redis 7.0, Valkey 7.2 or later is needed: {said}");
                (ErrorKind::Unsupported, Next::Give, false, message)
            }
            "ERR" => (ErrorKind::Other, Next::Give, false, said),
            // Of something in between, perhaps, which had passed it on.
            _ => return Self::new(ErrorKind::Other, Effect::Unknown, Next::Give, said).because(error),
        };
        let failure = Self::new(kind, Effect::NotApplied, next, message).because(error);
        if broken { failure.broken() } else { failure }
    }

    /// Where a cluster's server, which was asked at `host`, sent this on to.
    pub(crate) fn sent_on(&self, host: &str) -> Option<SentOn> {
        let error = self.source.as_ref()?;
        let is_moved = match error.code()? {
            "MOVED" => true,
            "ASK" => false,
            _ => return None,
        };
        let mut words = error.detail()?.split(' ');
        let slot = HashSlot::new(words.next()?.parse().ok()?)?;
        let (its, port) = words.next()?.rsplit_once(':')?;
        let port = port.parse().ok()?;
        // It leaves out what is the same, and says "?" of who should have a name, and has none.
        let host = if its.is_empty() { host } else { its };
        Some(SentOn { slot, to: (host != "?").then(|| (host.to_owned(), port)), is_moved })
    }

    /// It was sent on, again and again.
    pub(crate) fn not_found_yet(self) -> Self {
        match self.source {
            Some(error) if matches!(error.code(), Some("MOVED" | "ASK")) => {
                let message =
                    format!("the cluster's slots move, and this one was not found yet: {}", text(&error));
                Self::new(ErrorKind::Unavailable, Effect::NotApplied, Next::Retry, message).because(error)
            }
            source => Self { source, ..self },
        }
    }

    /// It may pass.
    pub(crate) fn passing(mut self) -> Self {
        self.next = Next::Retry;
        self
    }

    /// What was asked changes nothing.
    pub(crate) fn not_applied(mut self) -> Self {
        self.effect = Effect::NotApplied;
        self
    }

    /// The write was done, and the server doesn't wait for others; or no longer, for it has become a replica.
    pub(crate) fn waiting(error: RedisError) -> Self {
        if matches!(error.code(), Some("UNBLOCKED" | "READONLY" | "LOADING"))
            || text(&error).contains("replica")
        {
            let message = format!("written, and the server became a replica: {}", text(&error));
            let failure = Self::new(ErrorKind::Unavailable, Effect::Unknown, Next::Retry, message);
            return failure.broken().because(error);
        }
        let message = format!("written, but this server can't wait for others to have it: {}", text(&error));
        Self::new(ErrorKind::Unsupported, Effect::Unknown, Next::Give, message).because(error)
    }

    /// As the caller hears it; `before` is the effect of earlier tries (S7).
    pub(crate) fn into_error(self, operation: &'static str, before: Effect) -> StoreError {
        let error = StoreError::new(self.kind, operation, self.effect.max(before), self.message);
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// What the server or the system said, without the driver's own words around it.
fn text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

/// Which no other try passes.
fn is_of_certificate(error: &RedisError) -> bool {
    // The driver's error holds the connection's, and that one TLS's.
    let held = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let io = held.and_then(|held| held.downcast_ref::<std::io::Error>());
    let tls = io.and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server says it.
    fn said(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    fn lost() -> RedisError {
        std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
    }

    fn what(failure: &Failure) -> (ErrorKind, Effect, Next) {
        (failure.kind, failure.effect, failure.next)
    }

    #[test]
    fn what_a_server_says_of_itself_comes_before_the_script_has_written() {
        for (line, kind, next) in [
            ("LOADING Redis is loading", ErrorKind::Unavailable, Next::Retry),
            ("READONLY You can't write", ErrorKind::Unavailable, Next::Retry),
            ("NOSCRIPT No matching script", ErrorKind::Unavailable, Next::InFull),
            ("OOM command not allowed", ErrorKind::Unavailable, Next::Full),
            ("NOPERM User app has no permissions", ErrorKind::Other, Next::Give),
            ("MOVED 1 h:1", ErrorKind::Unsupported, Next::Give),
            ("ASK 1 h:1", ErrorKind::Unsupported, Next::Give),
        ] {
            let failure = Failure::of(said(line));
            assert_eq!(what(&failure), (kind, Effect::NotApplied, next), "{line}");
        }
    }

    /// S7.
    #[test]
    fn what_nobody_knows_the_meaning_of_may_have_had_an_effect() {
        for line in ["PROXYERR upstream went away", "XYZ"] {
            assert_eq!(
                what(&Failure::of(said(line))),
                (ErrorKind::Other, Effect::Unknown, Next::Give),
                "{line}"
            );
        }
        let failure = Failure::of(lost());
        assert_eq!(what(&failure), (ErrorKind::Unavailable, Effect::Unknown, Next::Retry));
        assert!(failure.broken);
    }

    #[test]
    fn whoever_is_sent_on_knows_where_to() {
        let to = |host: &str, is_moved| {
            let to = (host != "?").then(|| (host.to_owned(), 7000));
            Some(SentOn { slot: HashSlot::new(7).unwrap(), to, is_moved })
        };
        for (line, sent) in [
            ("MOVED 7 h:7000", to("h", true)),
            ("MOVED 7 :7000", to("asked", true)),
            ("MOVED 7 ::1:7000", to("::1", true)),
            ("MOVED 7 ?:7000", to("?", true)),
            ("ASK 7 h:7000", to("h", false)),
            ("MOVED 16384 h:7000", None),
            ("MOVED 7 h", None),
            ("MOVED", None),
            ("CLUSTERDOWN Hash slot not served", None),
        ] {
            assert_eq!(Failure::of(said(line)).sent_on("asked"), sent, "{line}");
        }
        assert_eq!(Failure::no_answer().sent_on("asked"), None);
    }

    /// S7: who sends on has done nothing.
    #[test]
    fn whoever_was_sent_on_too_often_may_try_again() {
        for line in ["MOVED 1 h:1", "ASK 1 h:1"] {
            let failure = Failure::of(said(line)).not_found_yet();
            assert_eq!(what(&failure), (ErrorKind::Unavailable, Effect::NotApplied, Next::Retry), "{line}");
            assert!(!failure.message.contains("redis+cluster"), "{}", failure.message);
        }
        assert_eq!(what(&Failure::unreached().not_found_yet()), what(&Failure::unreached()));
    }

    #[test]
    fn a_write_that_waited_was_written_and_is_asked_for_again_where_a_failover_ended_the_wait() {
        for line in [
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "ERR WAIT cannot be used with replica instances.",
        ] {
            let failure = Failure::waiting(said(line));
            assert_eq!(what(&failure), (ErrorKind::Unavailable, Effect::Unknown, Next::Retry), "{line}");
            assert!(failure.broken, "{line}: another is the master");
        }
        let failure = Failure::waiting(said("ERR unknown command 'WAITAOF'"));
        assert_eq!(what(&failure), (ErrorKind::Unsupported, Effect::Unknown, Next::Give));
    }

    #[test]
    fn what_came_before_says_more_than_that_the_time_was_over() {
        let few = || Failure::too_few("1 replicas were to have it", 0);
        for late in [Failure::no_answer(), Failure::no_connection_yet(), Failure::no_turn()] {
            assert_eq!(late.unless_late(Some(few())).kind, ErrorKind::Unavailable);
        }
        assert_eq!(Failure::no_answer().unless_late(None).kind, ErrorKind::Timeout);
        assert_eq!(Failure::of(said("XYZ")).unless_late(Some(few())).kind, ErrorKind::Other);
    }

    /// S7.
    #[test]
    fn the_caller_hears_the_worst_of_all_tries() {
        let refused = || Failure::of(said("NOPERM no"));
        assert_eq!(refused().into_error("renew", Effect::NotApplied).effect(), Effect::NotApplied);
        assert_eq!(refused().into_error("renew", Effect::Unknown).effect(), Effect::Unknown);
        assert_eq!(Failure::of(lost()).into_error("renew", Effect::NotApplied).effect(), Effect::Unknown);
    }
}
