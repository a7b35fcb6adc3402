//! [`Topology`]: which of a cluster's servers has which hash slots.

use std::collections::HashSet;
use std::fmt;

use crc::{CRC_16_XMODEM, Crc};
use redis::Value;

use crate::source::text;

/// Where a server is.
pub(crate) type At = (String, u16);

/// How many hash slots there are.
const SLOTS: u16 = 16_384;
/// What has no slot.
const NOBODY: u16 = u16::MAX;

/// A hash slot: what of a cluster a server has, and not what a record is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct HashSlot(u16);

impl HashSlot {
    /// Of a key: of what is in its first braces, if anything is.
    pub(crate) fn of(key: &[u8]) -> Self {
        const SUM: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
        let inside = key.iter().position(|byte| *byte == b'{').and_then(|open| {
            let rest = &key[open + 1..];
            let close = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
            Some(&rest[..close])
        });
        Self(SUM.checksum(inside.unwrap_or(key)) % SLOTS)
    }

    pub(crate) fn new(number: u16) -> Option<Self> {
        (number < SLOTS).then_some(Self(number))
    }
}

/// As one of the cluster's servers said.
pub(crate) struct Topology {
    masters: Vec<At>,
    replicas: Vec<At>,
    /// What all of them are called among themselves: an address may be another's later.
    names: HashSet<String>,
    /// Which of the masters has each.
    slots: Box<[u16]>,
}

impl Topology {
    /// Nothing is known yet.
    pub(crate) fn unknown() -> Self {
        let (masters, replicas, names) = (Vec::new(), Vec::new(), HashSet::new());
        Self { masters, replicas, names, slots: vec![NOBODY; SLOTS.into()].into() }
    }

    /// What CLUSTER SLOTS says: ranges, each with its master and then its replicas. A server that has met no other
    /// doesn't know its own address: it is the one that was `asked`.
    pub(crate) fn read(said: &Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = said else { return None };
        let mut topology = Self::unknown();
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), master, replicas @ ..] = &range[..] else {
                return None;
            };
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            topology.names.extend(std::iter::once(master).chain(replicas).filter_map(name));
            let master = at(master, asked)?;
            let known = topology.masters.iter().position(|at| *at == master);
            let number = known.unwrap_or_else(|| {
                topology.masters.push(master);
                topology.masters.len() - 1
            });
            topology.slots.get_mut(first..=last)?.fill(u16::try_from(number).ok()?);
            for replica in replicas.iter().filter_map(|replica| at(replica, asked)) {
                if !topology.replicas.contains(&replica) {
                    topology.replicas.push(replica);
                }
            }
        }
        Some(topology)
    }

    /// Whether both may be of one cluster: some server is in both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let are_unnamed = self.names.is_empty() || other.names.is_empty();
        are_unnamed || self.names.iter().any(|name| other.names.contains(name))
    }

    /// How many slots somebody has.
    pub(crate) fn assigned(&self) -> usize {
        self.slots.iter().filter(|master| **master != NOBODY).count()
    }

    pub(crate) fn master_of(&self, slot: HashSlot) -> Option<&At> {
        self.masters.get(usize::from(self.slots[usize::from(slot.0)]))
    }

    pub(crate) fn masters(&self) -> &[At] {
        &self.masters
    }

    /// Masters and replicas.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &At> {
        self.masters.iter().chain(&self.replicas)
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology").field("masters", &self.masters).finish_non_exhaustive()
    }
}

fn at(server: &Value, asked: &str) -> Option<At> {
    let Value::Array(server) = server else { return None };
    let [host, Value::Int(port), more @ ..] = &server[..] else { return None };
    let host = match host {
        Value::Nil => None,
        host => Some(text(host)?).filter(|host| !host.is_empty()),
    };
    let host = match host {
        // It should have a name, and has none.
        Some(unnamed) if unnamed == "?" => more.get(1).and_then(ip),
        host => host,
    };
    Some((host.unwrap_or_else(|| asked.to_owned()), u16::try_from(*port).ok()?))
}

fn name(server: &Value) -> Option<String> {
    let Value::Array(server) = server else { return None };
    server.get(2).and_then(text)
}

/// Among what else is said of a server.
fn ip(more: &Value) -> Option<String> {
    match more {
        Value::Array(words) => words
            .chunks_exact(2)
            .find(|pair| text(&pair[0]).as_deref() == Some("ip"))
            .and_then(|pair| text(&pair[1])),
        Value::Map(pairs) => {
            pairs.iter().find(|(word, _)| text(word).as_deref() == Some("ip")).and_then(|(_, ip)| text(ip))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec()), Value::Array(vec![])])
    }

    fn host(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, servers: impl IntoIterator<Item = Value>) -> Value {
        Value::Array([Value::Int(first), Value::Int(last)].into_iter().chain(servers).collect())
    }

    #[test]
    fn a_key_has_the_slot_that_the_servers_say() {
        // As CLUSTER KEYSLOT says.
        for (key, slot) in [
            ("", 0),
            ("a", 15_495),
            ("b", 3_300),
            ("123456789", 12_739),
            ("{a}b", 15_495),
            ("b{a}b{b}", 15_495),
            ("{}a", 10_875),
            ("{a", 10_276),
        ] {
            assert_eq!(HashSlot::of(key.as_bytes()), HashSlot(slot), "{key}");
        }
        assert_eq!((HashSlot::new(16_383), HashSlot::new(16_384)), (Some(HashSlot(16_383)), None));
    }

    #[test]
    fn each_server_is_known_once_with_all_of_its_ranges() {
        let said = Value::Array(vec![
            range(0, 99, [server(host("a"), 1), server(host("c"), 3)]),
            range(100, 8_000, [server(host("b"), 2)]),
            range(8_002, 16_383, [server(host("a"), 1), server(host("c"), 3)]),
        ]);
        let topology = Topology::read(&said, "asked").unwrap();
        let servers: Vec<_> = topology.servers().map(|(host, port)| format!("{host}:{port}")).collect();
        assert_eq!(servers, ["a:1", "b:2", "c:3"]);
        for (slot, master) in [
            (0, Some("a")),
            (99, Some("a")),
            (100, Some("b")),
            (8_000, Some("b")),
            (8_001, None),
            (16_383, Some("a")),
        ] {
            assert_eq!(topology.master_of(HashSlot(slot)).map(|(host, _)| &**host), master, "{slot}");
        }
        assert_eq!(topology.assigned(), 16_383);
        assert_eq!(Topology::unknown().master_of(HashSlot(7)), None);
    }

    #[test]
    fn who_does_not_know_its_own_address_is_the_one_that_was_asked() {
        for nobody in [Value::Nil, host("")] {
            let said = Value::Array(vec![range(0, 16_383, [server(nobody, 7)])]);
            let topology = Topology::read(&said, "asked").unwrap();
            assert_eq!(topology.masters(), [("asked".to_owned(), 7)]);
        }
        let id = host("id");
        let unnamed =
            Value::Array(vec![host("?"), Value::Int(7), id, Value::Array(vec![host("ip"), host("::1")])]);
        let topology = Topology::read(&Value::Array(vec![range(0, 16_383, [unnamed])]), "asked").unwrap();
        assert_eq!(topology.masters(), [("::1".to_owned(), 7)]);
    }

    #[test]
    fn what_is_no_list_of_slots_says_nothing() {
        let a = || server(host("a"), 1);
        for said in [
            Value::Okay,
            Value::Array(vec![range(0, 16_384, [a()])]),
            Value::Array(vec![range(-1, 7, [a()])]),
            Value::Array(vec![range(9, 7, [a()])]),
            Value::Array(vec![range(0, 7, [])]),
        ] {
            assert!(Topology::read(&said, "asked").is_none(), "{said:?}");
        }
    }
}
