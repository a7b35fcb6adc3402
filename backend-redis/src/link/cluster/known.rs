//! [`Known`]: what is known of a cluster.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Terms;
use super::super::server::Server;
use crate::address::Login;
use crate::error::Failure;
use crate::flight::Flight;
use crate::source::Source;
use crate::topology::{At, HashSlot, Topology};

pub(super) struct Known {
    pub(super) topology: Topology,
    /// What was heard since of single slots, and how often was looked before.
    moved: HashMap<HashSlot, (At, u64)>,
    pub(super) servers: HashMap<At, Server>,
    /// How often was looked.
    looks: u64,
    /// When that ended last.
    pub(super) looked: Option<Instant>,
    pub(super) looking: Option<Flight<Result<(), Failure>>>,
    /// That the look is not to wait for its time.
    pub(super) hurry: Arc<Notify>,
    /// Who is to be asked first then.
    pub(super) first: Option<At>,
}

impl Known {
    pub(super) fn nothing() -> Self {
        Self {
            topology: Topology::unknown(),
            moved: HashMap::new(),
            servers: HashMap::new(),
            looks: 0,
            looked: None,
            looking: None,
            hurry: Arc::default(),
            first: None,
        }
    }

    pub(super) fn place(&self, slot: Option<HashSlot>) -> Option<&At> {
        let slot = slot?;
        self.moved.get(&slot).map(|(at, _)| at).or_else(|| self.topology.master_of(slot))
    }

    /// Whether somebody else has it than who had it.
    pub(super) fn has_moved(&self, slot: Option<HashSlot>, from: &At) -> bool {
        self.place(slot).is_some_and(|now| now != from)
    }

    /// One of the masters: the next one that there is a connection to, if there is.
    pub(super) fn any(&self, turn: usize) -> Option<&At> {
        let masters = self.topology.masters();
        let mut turns = masters.iter().cycle().skip(turn % masters.len().max(1)).take(masters.len());
        let next = turns.clone().next();
        turns.find(|at| self.servers.get(*at).is_some_and(Server::is_connected)).or(next)
    }

    /// Somebody was sent on.
    pub(super) fn moves(&mut self, slot: HashSlot, to: At) {
        self.moved.insert(slot, (to.clone(), self.looks));
        self.first = Some(to);
    }

    /// A look begins: its number, and who is to be asked first.
    pub(super) fn looks(&mut self) -> (u64, Option<At>) {
        self.looks += 1;
        (self.looks, self.first.take())
    }

    /// What a look found. What was heard after it had begun is newer. A connection to a replica is not kept: it is looked
    /// at anew what that is set to, should it be promoted.
    pub(super) fn learn(&mut self, topology: Topology, look: u64) {
        self.topology = topology;
        self.moved.retain(|_, (_, when)| *when >= look);
        let (topology, moved) = (&self.topology, &self.moved);
        let is_used = |at: &At| topology.masters().contains(at) || moved.values().any(|(to, _)| to == at);
        self.servers.retain(|at, _| is_used(at));
    }

    pub(super) fn server(&mut self, at: &At, login: &Login, terms: &Terms) -> Result<Server, Failure> {
        if let Some(server) = self.servers.get(at) {
            return Ok(server.clone());
        }
        let source = Source::member(login, at).map_err(Failure::no_connection)?;
        let server = Server::new(source, terms.clone());
        self.servers.insert(at.clone(), server.clone());
        Ok(server)
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn all_at(host: &str) -> Topology {
        let server = Value::Array(vec![Value::BulkString(host.into()), Value::Int(1)]);
        let range = Value::Array(vec![Value::Int(0), Value::Int(16_383), server]);
        Topology::read(&Value::Array(vec![range]), "").unwrap()
    }

    #[test]
    fn a_look_that_began_before_somebody_was_sent_on_does_not_undo_that() {
        let mut known = Known::nothing();
        let (slot, at) = (HashSlot::new(7), |host: &str| (host.to_owned(), 1));
        known.moves(slot.unwrap(), at("old"));
        let (look, first) = known.looks();
        assert_eq!(first, Some(at("old")));
        known.moves(slot.unwrap(), at("new"));
        known.learn(all_at("slow"), look);
        assert_eq!(known.place(slot), Some(&at("new")));
        let (look, first) = known.looks();
        assert_eq!(first, Some(at("new")), "who was named meanwhile is asked by the next one");
        known.learn(all_at("newest"), look);
        assert_eq!(known.place(slot), Some(&at("newest")));
        assert!(known.has_moved(slot, &at("new")) && !known.has_moved(slot, &at("newest")));
        assert!(!known.has_moved(None, &at("new")), "nobody in particular has that");
    }
}
