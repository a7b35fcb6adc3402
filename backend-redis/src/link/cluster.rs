//! [`Cluster`]: which of its servers a call goes to.
//!
//! Each server has connections of its own, so that one which is silent is waited for by those alone that need it. Who has
//! which slots is known from what one of them said last:
//!
//! ```text
//!  call ──▶ the slot's master ──▶ answered
//!               ├─ MOVED: sent on, which is remembered of the slot; and who has what is asked anew, in the background
//!               ├─ ASK: sent on, this once
//!               └─ not reached: who has what is asked anew, until the slot has another master or this one is back
//! ```
//!
//! A server that sends on has done nothing. So here, too, an error says for certain whether a call may have had an effect.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use redis::aio::PubSub;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::Terms;
use super::server::Server;
use crate::address::Login;
use crate::error::{Failure, Next, SentOn};
use crate::pause;
use crate::source::{Ask, Source};
use crate::topology::{self, At, HashSlot, Topology};

/// How often a call is sent on before it begins anew.
const SENT_ON: u32 = 5;
/// How long one that should know who has what is asked before others are asked too; and how long it takes until that is
/// asked again while a call waits for a connection.
const SOON: Duration = Duration::from_millis(500);
/// How long each of them may take.
const ANSWER: Duration = Duration::from_secs(3);

pub(super) struct Cluster {
    /// Of the URL.
    nodes: Vec<At>,
    login: Login,
    terms: Terms,
    known: Mutex<Known>,
    /// Who is asked next, where any will do.
    turn: AtomicUsize,
}

struct Known {
    topology: Topology,
    /// What was heard since of single slots.
    moved: HashMap<HashSlot, At>,
    servers: HashMap<At, Server>,
    looking: Option<watch::Receiver<Option<Result<(), Failure>>>>,
}

impl Cluster {
    pub(super) fn new(nodes: Vec<At>, login: Login, terms: Terms) -> Result<Arc<Self>, Failure> {
        let known = Known {
            topology: Topology::unknown(),
            moved: HashMap::new(),
            servers: HashMap::new(),
            looking: None,
        };
        let cluster = Self { nodes, login, terms, known: Mutex::new(known), turn: AtomicUsize::new(0) };
        cluster.nodes.iter().try_for_each(|node| cluster.server(node).map(drop))?;
        Ok(Arc::new(cluster))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn server(&self, at: &At) -> Result<Server, Failure> {
        self.known().server(at, &self.login, &self.terms)
    }

    /// Asks who has the key, or any if there is none; by a connection that nobody else has meanwhile if it is to be apart.
    pub(super) async fn ask(
        self: &Arc<Self>,
        ask: Ask<'_>,
        apart: bool,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let slot = ask.key().map(HashSlot::of);
        let mut asking = None;
        let mut failure = None;
        for _ in 0..SENT_ON {
            let at = match &asking {
                Some(at) => At::clone(at),
                None => self.place(slot, deadline).await?,
            };
            let server = self.server(&at)?;
            let ready = tokio::select! {
                biased;
                ready = server.ready(apart, deadline) => ready,
                // A server that hangs is connected to for long, and somebody else may have the slot meanwhile.
                () = self.has_moved(slot, &at, deadline) => {
                    asking = None;
                    continue;
                }
            };
            let said = match ready {
                Ok(ready) => ready.ask(&ask.asking(asking.is_some()), deadline).await,
                // Nothing was sent, and it may be sent to another.
                Err(not_reached) => {
                    asking = None;
                    if not_reached.next == Next::Retry
                        && self.look(None, deadline).await.is_ok()
                        && self.known().place(slot).is_some_and(|now| now != at)
                    {
                        failure = Some(not_reached);
                        continue;
                    }
                    return Err(not_reached);
                }
            };
            let failed = match said {
                Ok(said) => return Ok(said),
                Err(failed) => failed,
            };
            match failed.sent_on(&at.0) {
                Some(SentOn::Moved(slot, to)) => {
                    self.known().moved.insert(slot, to.clone());
                    self.look_beside(Some(to));
                    asking = None;
                }
                Some(SentOn::Asked(to)) => asking = Some(to),
                None => {
                    if failed.next == Next::Retry {
                        self.look_beside(None);
                    }
                    return Err(failed);
                }
            }
            failure = Some(failed);
        }
        Err(failure.map_or_else(Failure::unreached, Failure::not_found_yet))
    }

    /// Who has a slot; where that isn't known, somebody who can say it.
    async fn place(self: &Arc<Self>, slot: Option<HashSlot>, deadline: Instant) -> Result<At, Failure> {
        if let Some(at) = self.known().place(slot) {
            return Ok(at);
        }
        if self.known().topology.masters().is_empty() {
            self.look(None, deadline).await?;
        }
        let known = self.known();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        known.place(slot).or_else(|| known.any(turn)).ok_or_else(Failure::unreached)
    }

    /// Returns when somebody else has it than who had it.
    async fn has_moved(self: &Arc<Self>, slot: Option<HashSlot>, from: &At, deadline: Instant) {
        loop {
            pause::until(Instant::now() + SOON).await;
            let looked = self.look(None, deadline).await;
            if looked.is_ok() && slot.is_some() && self.known().place(slot).is_some_and(|at| at != *from) {
                return;
            }
        }
    }

    /// All that have slots, as one of them says now.
    pub(super) async fn masters(self: &Arc<Self>, deadline: Instant) -> Result<Vec<At>, Failure> {
        self.look(None, deadline).await?;
        Ok(self.known().topology.masters().to_vec())
    }

    /// Whether those masters that are reached are such as a store may be opened on; and whether one is.
    pub(super) async fn fits(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        let mut asked = JoinSet::new();
        for at in self.masters(deadline).await? {
            let server = self.server(&at)?;
            asked.spawn(async move { server.fits(deadline).await });
        }
        let (mut is_one, mut failed) = (false, None);
        while let Some(ended) = asked.join_next().await {
            match ended.unwrap_or_else(|_| Err(Failure::no_connection_yet())) {
                Ok(()) => is_one = true,
                Err(failure) if failure.next == Next::Give => return Err(failure),
                Err(failure) => failed = Some(failure),
            }
        }
        if is_one { Ok(()) } else { Err(failed.unwrap_or_else(Failure::unreached)) }
    }

    /// Any server will do. Each try begins with the next one: those that hang shall not keep it from the others for ever.
    pub(super) async fn listener(&self) -> Result<PubSub, Failure> {
        let mut all = self.all();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % all.len().max(1);
        all.rotate_left(turn);
        let mut failed = Failure::unreached();
        for at in all {
            match timeout(4 * SOON, self.server(&at)?.listener()).await {
                Ok(Ok(heard)) => return Ok(heard),
                Ok(Err(failure)) => failed = failure,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    /// All servers that the cluster named last, and those of the URL: what is known now may be gone in a while.
    fn all(&self) -> Vec<At> {
        let mut all: Vec<At> = self.known().topology.servers().cloned().collect();
        let more = self.nodes.iter().filter(|node| !all.contains(node)).cloned();
        let more: Vec<At> = more.collect();
        all.extend(more);
        all
    }

    /// Asks anew who has what, and waits for that. All who want it wait for the same.
    async fn look(self: &Arc<Self>, first: Option<At>, deadline: Instant) -> Result<(), Failure> {
        let mut looking = self.looking(first);
        match timeout_at(deadline, looking.wait_for(Option::is_some)).await {
            Ok(Ok(looked)) => looked.clone().unwrap_or_else(|| Err(Failure::no_connection_yet())),
            Ok(Err(_)) | Err(_) => Err(Failure::no_connection_yet()),
        }
    }

    /// Asks anew, and nobody waits.
    fn look_beside(self: &Arc<Self>, first: Option<At>) {
        drop(self.looking(first));
    }

    fn looking(self: &Arc<Self>, first: Option<At>) -> watch::Receiver<Option<Result<(), Failure>>> {
        let mut known = self.known();
        // Closed, where the runtime ended that its task was on.
        if let Some(looking) = known.looking.as_ref().filter(|looking| looking.has_changed().is_ok()) {
            return looking.clone();
        }
        let (tell, looking) = watch::channel(None);
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            let looked = cluster.learn(first).await;
            cluster.known().looking = None;
            // Those who wait hold the other end, if there still are any.
            let _ = tell.send(Some(looked));
        });
        known.looking.insert(looking).clone()
    }

    /// Of who should know it best; then of all masters; and then of everybody.
    async fn learn(self: &Arc<Self>, first: Option<At>) -> Result<(), Failure> {
        let masters = self.known().topology.masters().to_vec();
        for some in [first.into_iter().collect(), masters] {
            if let Ok(Ok(topology)) = timeout(SOON, self.ask_each(some)).await {
                self.known().learn(topology);
                return Ok(());
            }
        }
        let topology = self.ask_each(self.all()).await?;
        self.known().learn(topology);
        Ok(())
    }

    /// What the first of them says that says anything.
    async fn ask_each(self: &Arc<Self>, each: Vec<At>) -> Result<Topology, Failure> {
        let mut asked = JoinSet::new();
        for at in each {
            let server = self.server(&at)?;
            asked.spawn(async move {
                let until = Instant::now() + ANSWER;
                let said =
                    server.ready(false, until).await?.ask(&Ask::one(&topology::question()), until).await?;
                Topology::read(&said, &at.0).ok_or_else(Failure::nonsense)
            });
        }
        let mut failed: Option<Failure> = None;
        while let Some(ended) = asked.join_next().await {
            match ended {
                Ok(Ok(topology)) => {
                    // The others' answers are owed, and end by themselves.
                    asked.detach_all();
                    return Ok(topology);
                }
                // What has to be mended is said before what may pass.
                Ok(Err(failure)) if failed.as_ref().is_none_or(|failed| failed.next == Next::Retry) => {
                    failed = Some(failure.not_applied());
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(Failure::unreached))
    }
}

impl Known {
    fn place(&self, slot: Option<HashSlot>) -> Option<At> {
        let slot = slot?;
        self.moved.get(&slot).or_else(|| self.topology.master_of(slot)).cloned()
    }

    /// One of the masters: the next one that there is a connection to, if there is.
    fn any(&self, turn: usize) -> Option<At> {
        let masters = self.topology.masters();
        let mut turns = masters.iter().cycle().skip(turn % masters.len().max(1)).take(masters.len());
        let next = turns.clone().next();
        let is_connected = |at: &&At| self.servers.get(*at).is_some_and(Server::is_connected);
        turns.find(is_connected).or(next).cloned()
    }

    /// A connection to a replica is not kept: it is looked at anew what that is set to, should it be promoted.
    fn learn(&mut self, topology: Topology) {
        self.topology = topology;
        self.moved.clear();
        self.servers.retain(|at, _| self.topology.masters().contains(at));
    }

    fn server(&mut self, at: &At, login: &Login, terms: &Terms) -> Result<Server, Failure> {
        if let Some(server) = self.servers.get(at) {
            return Ok(server.clone());
        }
        let source = Source::member(login, at).map_err(Failure::no_connection)?;
        let server = Server::new(source, terms.clone());
        self.servers.insert(at.clone(), server.clone());
        Ok(server)
    }
}
