//! [`Walk`]: every key, page by page, on each server that has a part of them.
//!
//! What SCAN calls its cursor is a place in a table whose order a server draws at its start: to another process it means
//! another place, and what lies before that would be missed. So each page says which process it is of, and with another
//! one its server is read from the start. A page of a replica is none.
//!
//! In a cluster a key may move while it is looked for, from a server that is yet to be read to one that was:
//!
//! ```text
//! walk     reads A ............................ reads B
//! key      on B          moved to A                     it was on neither when that was read
//! ```
//!
//! So when all were read, each is asked whether it still has the same slots, and these have to be all that there are. If
//! not, all are read again, but not for ever: a cluster may move slots for hours.

use oncekey_core::StoreError;
use redis::{Cmd, Value};
use tokio::time::Instant;

use crate::answer::Wrong;
use crate::call::Call;
use crate::error::{Failure, Next};
use crate::link::{Node, text};
use crate::store::{Inner, RedisStore};

/// How often all are read again.
const AGAIN: u32 = 10;

/// Keys that are asked for at a time.
const CHUNK: usize = 1_000;

/// Where it begins, and where the server says that it ended.
const START: &str = "0";

/// Keys that begin with the store's prefix. Each is shown once or more often, if it was there all the while.
pub(crate) struct Walk<'a> {
    store: &'a RedisStore,
    name: &'static str,
    /// Which server has which part, as they say themselves.
    parts: Vec<(Node, Part)>,
    /// Of these, how many were read.
    read: usize,
    /// How often it began again.
    again: u32,
    from: String,
    /// Whose cursor that is.
    process: Option<String>,
}

/// What a cluster's server says of its slots, with those that are being moved; nothing of a server that is alone.
type Part = String;

impl<'a> Walk<'a> {
    pub(crate) async fn begin(store: &'a RedisStore, name: &'static str) -> Result<Self, StoreError> {
        let mut walk =
            Self { store, name, parts: Vec::new(), read: 0, again: 0, from: START.to_owned(), process: None };
        walk.parts = walk.parts().await?;
        Ok(walk)
    }

    /// Some keys more; nothing when all were shown.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<String>>, StoreError> {
        loop {
            let Some((node, _)) = self.parts.get(self.read) else {
                if self.is_whole().await? {
                    return Ok(None);
                }
                continue;
            };
            let Some(shown) = self.page(node).await? else {
                self.begin_again_if_changed().await?;
                continue;
            };
            if self.process.as_ref() != Some(&shown.process) {
                let is_ours = self.from == START;
                self.process = Some(shown.process);
                if !is_ours {
                    START.clone_into(&mut self.from);
                    continue;
                }
            }
            self.from = shown.next;
            if self.from == START {
                (self.read, self.process) = (self.read + 1, None);
            }
            return Ok(Some(shown.keys));
        }
    }

    /// Whether the parts that were read are all that there is.
    async fn is_whole(&mut self) -> Result<bool, StoreError> {
        if !self.store.inner().link.is_cluster() {
            return Ok(true);
        }
        if self.begin_again_if_changed().await? {
            return Ok(false);
        }
        if self.parts.iter().any(|(_, part)| part.contains('[')) {
            return Err(self.call().failed(Failure::moving()));
        }
        Ok(true)
    }

    /// Whether others have the slots now; then all are to be read.
    async fn begin_again_if_changed(&mut self) -> Result<bool, StoreError> {
        let parts = self.parts().await?;
        let has_changed = self.differs(&parts);
        if has_changed {
            if self.again == AGAIN {
                return Err(self.call().failed(Failure::moving()));
            }
            self.again += 1;
            (self.parts, self.read, self.process) = (parts, 0, None);
            START.clone_into(&mut self.from);
        }
        Ok(has_changed)
    }

    fn differs(&self, parts: &[(Node, Part)]) -> bool {
        parts.iter().map(|(_, part)| part).ne(self.parts.iter().map(|(_, part)| part))
    }

    /// Each server that has a part of the keys. A try that fails begins with who they are: one of them may have failed.
    async fn parts(&self) -> Result<Vec<(Node, Part)>, StoreError> {
        Inner::again(&self.call(), |until| self.parts_by(until)).await
    }

    async fn parts_by(&self, until: Instant) -> Result<Vec<(Node, Part)>, Failure> {
        let link = &self.store.inner().link;
        let mut cmd = Cmd::new();
        cmd.arg("CLUSTER").arg("NODES");
        let mut parts = Vec::new();
        let (nodes, slots) = link.parts(until).await?;
        for node in nodes {
            let part = if link.is_cluster() {
                let said = link.send_to(&node, &cmd, until).await?;
                text(&said).as_deref().and_then(own_part).ok_or_else(Failure::nonsense)?
            } else {
                Part::new()
            };
            parts.push((node, part));
        }
        let is_all = slots.is_none_or(|slots| are_all(parts.iter().map(|(_, part)| part), slots));
        if is_all { Ok(parts) } else { Err(Failure::moving().passing()) }
    }

    /// What its server shows next; nothing where others have the slots now.
    async fn page(&self, node: &Node) -> Result<Option<Shown>, StoreError> {
        let link = &self.store.inner().link;
        let mut cmd = Cmd::new();
        let pattern = format!("{}:*", self.store.inner().settings.prefix);
        cmd.arg("SCAN").arg(&self.from).arg("MATCH").arg(pattern).arg("COUNT").arg(CHUNK);
        let cmd = &cmd;
        let once = |until| async move {
            let failure = match link.send_to_master(node, cmd, until).await {
                Ok(said) => return Ok(Some(said)),
                Err(failure) => failure,
            };
            if !link.is_cluster() || failure.next != Next::Retry {
                return Err(failure);
            }
            match self.parts_by(until).await {
                Ok(parts) if self.differs(&parts) => Ok(None),
                _ => Err(failure),
            }
        };
        let Some((said, process)) = Inner::again(&self.call(), once).await? else { return Ok(None) };
        let Value::Array(said) = said else { return Err(self.nonsense()) };
        let Ok([Value::BulkString(next), Value::Array(keys)]) = <[Value; 2]>::try_from(said) else {
            return Err(self.nonsense());
        };
        let next = String::from_utf8(next).map_err(|_| self.nonsense())?;
        let keys = keys.into_iter().filter_map(|key| match key {
            Value::BulkString(key) => String::from_utf8(key).ok(),
            _ => None,
        });
        Ok(Some(Shown { keys: keys.collect(), next, process }))
    }

    /// Each command has the deadline of a call: there may be any number of keys.
    fn call(&self) -> Call {
        Call::reading(self.name, self.store.inner().deadline())
    }

    fn nonsense(&self) -> StoreError {
        Wrong::Nonsense.in_operation(self.name)
    }
}

/// A page, where the next one begins, and of which process.
struct Shown {
    keys: Vec<String>,
    next: String,
    process: String,
}

/// What CLUSTER NODES says of who says it: its name and role, its epoch and its slots.
fn own_part(said: &str) -> Option<Part> {
    let own = said.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let own = own.into_iter().find(|words| words.get(2).is_some_and(|flags| flags.contains("myself")))?;
    let is_master = if own[2].contains("master") { "master" } else { "replica" };
    // Its epoch is higher after a slot came to it: one that went and came back leaves the slots as they were.
    let (epoch, slots) = (own.get(6)?, own.get(8..).unwrap_or_default().join(" "));
    Some(format!("{} {is_master} {epoch} {slots}", own[0]))
}

/// Whether these have so many slots, each of them once. One that says who has what may not know of the last change.
fn are_all<'a>(parts: impl Iterator<Item = &'a Part>, slots: usize) -> bool {
    let (mut all, mut count) = ([false; 16_384], 0);
    // After its name, its role and its epoch; those in brackets are on their way.
    let ranges = parts.flat_map(|part| part.split(' ').skip(3)).filter(|word| !word.starts_with('['));
    for range in ranges {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
        for slot in first..=last {
            match all.get_mut(usize::from(slot)) {
                Some(has) if !*has => (*has, count) = (true, count + 1),
                _ => return false,
            }
        }
    }
    count == slots
}

impl RedisStore {
    /// Whether the key is of this prefix and no longer one.
    pub(crate) fn is_ours(&self, key: &str) -> bool {
        let rest = key.strip_prefix(&*self.inner().settings.prefix).and_then(|rest| rest.strip_prefix(':'));
        rest.is_some_and(is_digest)
    }
}

pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_nobody_has_or_two_have_means_that_not_all_were_heard_of() {
        let are = |parts: &[&str], slots| {
            are_all(parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>().iter(), slots)
        };
        assert!(are(&["a master 1 0-5 9", "b master 2 6-8"], 10));
        assert!(
            are(&["a master 1 0-5 [6-<-b]", "b master 2 6-9 [6->-a]"], 10),
            "on its way, and with one of them"
        );
        assert!(!are(&["a master 1 0-5 9", "b master 2 6-7"], 10), "8 is missing");
        assert!(!are(&["a master 1 0-5 9", "b master 2 5-7"], 9), "both have 5");
        assert!(!are(&["a master 1 0-5", "b replica 2 "], 10));
        assert!(!are(&[], 10));
    }

    fn said(epoch: u32, slots: &str) -> Option<Part> {
        own_part(&format!(
            "other 127.0.0.1:2@3 master - 0 1 7 connected 5461-16383\nown 127.0.0.1:1@2 myself,master - 0 0 {epoch} \
             connected {slots}\n"
        ))
    }

    #[test]
    fn a_slot_that_went_and_came_back_is_a_change() {
        let before = said(1, "0-5460").unwrap();
        assert_eq!(said(1, "0-5460").unwrap(), before);
        assert_ne!(said(1, "0-5459").unwrap(), before);
        assert_ne!(said(8, "0-5460").unwrap(), before);
        assert!(said(1, "0-5460 [5460->-other]").unwrap().contains('['));
        assert!(own_part("other 127.0.0.1:2@3 master - 0 1 7 connected 5461-16383\n").is_none());
    }
}
