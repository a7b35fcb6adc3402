//! [`Topology`]: which of a cluster's servers has which hash slots, and which of them a connection reaches; and
//! [`Doubt`], those that nobody is to be sent to.

use std::ops::RangeInclusive;

use redis::cluster_routing::Slot as HashSlot;
use redis::{Cmd, Value};

use crate::source::{Connection, Whom, text};

/// Where a server is.
pub(crate) type At = (String, u16);

/// As the cluster said when it was connected to.
#[derive(Default, Debug)]
pub(crate) struct Topology {
    parts: Vec<Part>,
}

/// What a master has.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) master: At,
    replicas: Vec<At>,
    slots: Vec<RangeInclusive<u16>>,
    reached: bool,
}

pub(crate) fn question() -> Cmd {
    let mut cmd = Cmd::new();
    cmd.arg("CLUSTER").arg("SLOTS");
    cmd
}

impl Topology {
    /// What CLUSTER SLOTS says: ranges, each with its master and then its replicas. A server that has met no other
    /// doesn't know its own address: it is the one that was `asked`.
    pub(crate) fn read(said: &Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = said else { return None };
        let mut parts: Vec<Part> = Vec::new();
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), master, replicas @ ..] = &range[..] else {
                return None;
            };
            let slots = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
            let master = at(master, asked)?;
            match parts.iter_mut().find(|part| part.master == master) {
                Some(part) => part.slots.push(slots),
                None => {
                    let replicas = replicas.iter().filter_map(|replica| at(replica, asked)).collect();
                    parts.push(Part { master, replicas, slots: vec![slots], reached: true });
                }
            }
        }
        Some(Self { parts })
    }

    /// What those masters answered that the driver has a connection to, by their addresses as it writes them. One that
    /// loads its data, or runs somebody's script without end, answers an error: so it would everybody.
    pub(crate) fn reached(&mut self, said: &Value) {
        let Value::Map(answers) = said else { return };
        let by: Vec<_> = answers.iter().filter_map(|(by, said)| Some((text(by)?, said))).collect();
        // One that isn't known: another moment's, or by another name, and then nothing is told by who is missing.
        if by.iter().all(|(by, _)| self.parts.iter().any(|part| part.name() == *by)) {
            for part in &mut self.parts {
                let name = part.name();
                part.reached =
                    by.iter().any(|(by, said)| *by == name && !matches!(said, Value::ServerError(_)));
            }
        }
    }

    /// Of what each master answered, what those did that are reached.
    pub(crate) fn of_reached(&self, said: Value) -> Value {
        let Value::Map(mut answers) = said else { return said };
        let is_out =
            |by: &Value| self.parts.iter().any(|part| !part.reached && Some(part.name()) == text(by));
        answers.retain(|(by, _)| !is_out(by));
        Value::Map(answers)
    }

    pub(crate) fn masters(self) -> Vec<At> {
        self.parts.into_iter().map(|part| part.master).collect()
    }

    /// Masters and replicas.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &At> {
        self.parts.iter().flat_map(|part| std::iter::once(&part.master).chain(&part.replicas))
    }

    /// Whether it is known who has what, and all of them are reached.
    pub(crate) fn is_reached(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| part.reached)
    }

    /// Those that are not reached.
    pub(crate) fn doubt(&self) -> Doubt {
        Doubt(self.parts.iter().filter(|part| !part.reached).cloned().collect())
    }

    /// Whether somebody is reached who has any of what that part had.
    fn reaches(&self, part: &Part) -> bool {
        let meet = |a: &RangeInclusive<u16>, b: &RangeInclusive<u16>| {
            a.start().max(b.start()) <= a.end().min(b.end())
        };
        let has = |now: &Part| now.slots.iter().any(|one| part.slots.iter().any(|other| meet(one, other)));
        part.slots.is_empty() || self.parts.iter().any(|now| now.reached && has(now))
    }

    pub(crate) fn part(&self, whom: &Whom) -> Option<&Part> {
        self.parts.iter().find(|part| part.is(whom))
    }
}

impl Part {
    /// As the driver writes it.
    fn name(&self) -> String {
        format!("{}:{}", self.master.0, self.master.1)
    }

    fn is(&self, whom: &Whom) -> bool {
        match whom {
            Whom::Any => false,
            Whom::Has(key) => {
                let slot = HashSlot::for_key(key);
                self.slots.iter().any(|range| range.clone().any(|each| HashSlot::new(each) == Some(slot)))
            }
            Whom::At(host, port) => self.master.0 == *host && self.master.1 == *port,
        }
    }
}

/// Masters that a connection doesn't reach, or that were silent: whoever is sent to one waits, and the driver stops all
/// others while it looks for it. So they wait here, for another connection.
#[derive(Clone, Default, Debug)]
pub(crate) struct Doubt(Vec<Part>);

impl Doubt {
    pub(crate) fn is_of(&self, whom: impl FnOnce() -> Whom) -> bool {
        !self.0.is_empty() && {
            let whom = whom();
            self.0.iter().any(|part| part.is(&whom))
        }
    }

    /// Doubts whoever has it; if that is known.
    pub(crate) fn add(&mut self, connection: &Connection, whom: &Whom) -> bool {
        let Connection::Cluster(_, topology) = connection else { return false };
        let Some(part) = topology.part(whom) else { return false };
        if !self.0.iter().any(|doubted| doubted.master == part.master) {
            self.0.push(part.clone());
        }
        true
    }

    /// Whether that connection reaches any of them.
    pub(crate) fn is_less_by(&self, connection: &Connection) -> bool {
        match connection {
            Connection::Cluster(_, topology) => self.0.iter().any(|part| topology.reaches(part)),
            Connection::One(_) => true,
        }
    }
}

fn at(server: &Value, asked: &str) -> Option<At> {
    let Value::Array(server) = server else { return None };
    let [host, Value::Int(port), ..] = &server[..] else { return None };
    let host = match host {
        Value::Nil => None,
        host => Some(text(host)?).filter(|host| !host.is_empty()),
    };
    Some((host.unwrap_or_else(|| asked.to_owned()), u16::try_from(*port).ok()?))
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

    /// Of two masters: `a` with two ranges and a replica, and `b`.
    fn two() -> Topology {
        let said = Value::Array(vec![
            range(0, 99, [server(host("a"), 1), server(host("c"), 3)]),
            range(100, 8_000, [server(host("b"), 2)]),
            range(8_001, 16_383, [server(host("a"), 1), server(host("c"), 3)]),
        ]);
        Topology::read(&said, "asked").unwrap()
    }

    fn answers(names: &[&str]) -> Value {
        Value::Map(names.iter().map(|name| (host(name), Value::Okay)).collect())
    }

    #[test]
    fn each_server_is_known_once_with_all_of_its_ranges() {
        let topology = two();
        let servers: Vec<_> = topology.servers().map(|(host, port)| format!("{host}:{port}")).collect();
        assert_eq!(servers, ["a:1", "c:3", "b:2"]);
        assert_eq!(topology.parts[0].slots, [0..=99, 8_001..=16_383]);
    }

    #[test]
    fn who_does_not_know_its_own_address_is_the_one_that_was_asked() {
        for nobody in [Value::Nil, host("")] {
            let said = Value::Array(vec![range(0, 16_383, [server(nobody, 7)])]);
            let topology = Topology::read(&said, "asked").unwrap();
            assert_eq!(topology.masters(), [("asked".to_owned(), 7)]);
        }
        assert!(Topology::read(&Value::Okay, "asked").is_none());
        assert!(
            Topology::read(&Value::Array(vec![range(0, 70_000, [server(host("a"), 1)])]), "asked").is_none()
        );
    }

    #[test]
    fn those_are_doubted_that_are_missing_among_the_answers() {
        let mut topology = two();
        topology.reached(&answers(&["a:1"]));
        let doubt = topology.doubt();
        // CLUSTER KEYSLOT says 3300 of b, and 15495 of a.
        assert!(doubt.is_of(|| Whom::Has(b"b".to_vec())) && doubt.is_of(|| Whom::At("b".to_owned(), 2)));
        assert!(!doubt.is_of(|| Whom::Has(b"a".to_vec())) && !doubt.is_of(|| Whom::Any));
        // Who answers an error would answer it to everybody.
        let busy = redis::parse_redis_value(b"-BUSY running a script\r\n").unwrap();
        assert!(matches!(busy, Value::ServerError(_)), "{busy:?}");
        let mut topology = two();
        topology.reached(&Value::Map(vec![(host("a:1"), Value::Okay), (host("b:2"), busy.clone())]));
        assert!(topology.doubt().is_of(|| Whom::Has(b"b".to_vec())));
        // And what it says of itself is not looked at.
        let said = Value::Map(vec![(host("a:1"), Value::Okay), (host("b:2"), busy)]);
        assert_eq!(topology.of_reached(said), answers(&["a:1"]));
        // One of them may be called by another name, and then nothing is known of any.
        let mut topology = two();
        topology.reached(&answers(&["a:1", "b.example:2"]));
        assert!(topology.doubt().0.is_empty());
    }

    #[test]
    fn another_connection_is_better_if_somebody_is_reached_who_has_what_was_doubted() {
        let mut without = two();
        without.reached(&answers(&["a:1"]));
        let part = &without.doubt().0[0];
        assert!(two().reaches(part) && !without.reaches(part));
        // Its replica has its slots now.
        let said = Value::Array(vec![
            range(0, 99, [server(host("a"), 1)]),
            range(100, 16_383, [server(host("d"), 4)]),
        ]);
        let mut after = Topology::read(&said, "asked").unwrap();
        after.reached(&answers(&["a:1", "d:4"]));
        assert!(after.reaches(part));
        // Another has some of them, and not the first.
        let said = Value::Array(vec![
            range(0, 99, [server(host("a"), 1)]),
            range(100, 3_000, [server(host("b"), 2)]),
            range(3_001, 16_383, [server(host("d"), 4)]),
        ]);
        let mut after = Topology::read(&said, "asked").unwrap();
        after.reached(&answers(&["a:1", "d:4"]));
        assert!(after.reaches(part));
        after.reached(&answers(&["a:1"]));
        assert!(!after.reaches(part));
    }
}
