//! [`Known`]: what is known of a cluster.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Terms;
use super::super::server::Server;
use super::said::Said;
use crate::address::Login;
use crate::error::Failure;
use crate::flight::Flight;
use crate::source::Source;
use crate::topology::{At, HashSlot, Topology};

pub(super) struct Known {
    pub(super) topology: Topology,
    /// The latest that it is of.
    epoch: u64,
    /// What was heard since of single slots, and which look was the last before.
    moved: HashMap<HashSlot, (At, u64)>,
    pub(super) servers: HashMap<At, Server>,
    /// How many looks there were, and which one learned what is known.
    pub(super) begun: u64,
    pub(super) learned: u64,
    /// When the last one began to ask, and when the last one did that learned something.
    pub(super) asked_at: Option<Instant>,
    pub(super) learned_at: Option<Instant>,
    /// Why the last one learned nothing.
    pub(super) failed: Option<Failure>,
    pub(super) looking: Option<Flight<Result<(), Failure>>>,
    /// That the look is not to wait for its time.
    pub(super) hurry: Arc<Notify>,
    /// Who is to be asked first by the next one.
    pub(super) first: Option<At>,
}

impl Known {
    pub(super) fn nothing() -> Self {
        Self {
            topology: Topology::unknown(),
            epoch: 0,
            moved: HashMap::new(),
            servers: HashMap::new(),
            begun: 0,
            learned: 0,
            asked_at: None,
            learned_at: None,
            failed: None,
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
    pub(super) fn any(&self, after: usize) -> Option<&At> {
        let masters = self.topology.masters();
        let mut turns = masters.iter().cycle().skip(after % masters.len().max(1)).take(masters.len());
        let next = turns.clone().next();
        turns.find(|at| self.servers.get(*at).is_some_and(Server::is_connected)).or(next)
    }

    /// Somebody was sent on.
    pub(super) fn moves(&mut self, slot: HashSlot, to: At) {
        self.moved.insert(slot, (to.clone(), self.begun));
        self.first = Some(to);
    }

    /// A look begins to ask: which one it is, and who is to be asked first.
    pub(super) fn begin(&mut self) -> (u64, Option<At>) {
        self.begun += 1;
        self.asked_at = Some(Instant::now());
        (self.begun, self.first.take())
    }

    /// What a look found. What was heard after it had begun is newer. A connection to a replica is
    /// not kept: it is looked at anew what that is set to, should it be promoted.
    pub(super) fn learn(&mut self, said: Said, look: u64) {
        // It was late; or all that answer are cut off, and know less than is known.
        let is_old = !said.is_well && said.epoch < self.epoch && said.is_of(&self.topology);
        if look < self.learned || is_old {
            return;
        }
        (self.topology, self.epoch) = (said.topology, said.epoch);
        (self.learned, self.learned_at, self.failed) = (look, self.asked_at, None);
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
    use super::super::said::tests::all_at;
    use super::*;

    fn at(host: &str) -> At {
        (host.to_owned(), 1)
    }

    impl Known {
        /// That all is at one of two servers.
        fn hears(&mut self, host: &str, replica: &str, is_well: bool, epoch: u64, look: u64) {
            self.learn(Said { topology: all_at(host, replica), is_well, epoch }, look);
        }
    }

    #[test]
    fn a_look_that_began_before_somebody_was_sent_on_does_not_undo_that() {
        let mut known = Known::nothing();
        let slot = HashSlot::new(7);
        known.moves(slot.unwrap(), at("old"));
        let (look, first) = known.begin();
        assert_eq!(first, Some(at("old")));
        known.moves(slot.unwrap(), at("new"));
        known.hears("slow", "new", true, 1, look);
        assert_eq!(known.place(slot), Some(&at("new")));
        let (look, first) = known.begin();
        assert_eq!(first, Some(at("new")), "who was named meanwhile is asked by the next one");
        known.hears("newest", "new", true, 2, look);
        assert_eq!(known.place(slot), Some(&at("newest")));
        assert!(known.has_moved(slot, &at("new")) && !known.has_moved(slot, &at("newest")));
        assert!(!known.has_moved(None, &at("new")), "nobody in particular has that");
    }

    #[test]
    fn what_is_older_than_what_is_known_is_not_learned() {
        let mut known = Known::nothing();
        let slot = HashSlot::new(7);
        let [first, second, third] = [0; 3].map(|_| known.begin().0);
        known.hears("new", "old", true, 8, second);
        known.hears("old", "new", true, 7, first);
        assert_eq!(known.place(slot), Some(&at("new")), "the first look ended after the second");
        known.hears("old", "new", false, 7, third);
        assert_eq!(known.place(slot), Some(&at("new")), "by one that is cut off");
        known.hears("x", "y", false, 1, third);
        assert_eq!(known.place(slot), Some(&at("x")), "it was made anew");
    }
}
