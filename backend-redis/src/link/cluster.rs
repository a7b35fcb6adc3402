//! [`Cluster`]: which of its servers a call goes to.
//!
//! Each server has connections of its own, so that one which is silent is waited for by those alone that need it. Who has
//! which slots is known from the last [look](look):
//!
//! ```text
//!  call ──▶ the slot's master ──▶ answered
//!               ├─ MOVED: sent on, which is remembered of the slot; and a look, in the background
//!               ├─ ASK: sent on, this once
//!               └─ not connected: a look, again and again, until the slot has another master or this one is back
//! ```
//!
//! A server that sends on has done nothing. So here, too, an error says for certain whether a call may have had an effect.

mod known;
mod look;
mod said;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use redis::aio::PubSub;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::known::Known;
use self::look::{SOON, When};
use super::Terms;
use super::server::{Ready, Server};
use crate::address::Login;
use crate::error::{Failure, Next};
use crate::pause;
use crate::source::Ask;
use crate::topology::{At, HashSlot};

/// How long one may take to be connected to by who listens.
const LISTEN: Duration = Duration::from_secs(2);
/// How often a call is sent on before it begins anew.
const SENT_ON: u32 = 5;

pub(super) struct Cluster {
    /// Of the URL.
    nodes: Vec<At>,
    login: Login,
    terms: Terms,
    known: Mutex<Known>,
    /// Who is asked next, where any will do.
    next: AtomicUsize,
}

impl Cluster {
    pub(super) fn new(nodes: Vec<At>, login: Login, terms: Terms) -> Result<Arc<Self>, Failure> {
        let known = Mutex::new(Known::nothing());
        let cluster = Self { nodes, login, terms, known, next: AtomicUsize::new(0) };
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
        let mut slot = ask.key().map(HashSlot::of);
        let (mut asked, mut failure) = (None::<At>, None);
        for _ in 0..SENT_ON {
            let place = self.place(slot, deadline).await?;
            let asking = asked.is_some();
            let at = asked.take().unwrap_or_else(|| place.clone());
            let ready = match self.ready(&at, apart, slot, &place, deadline).await {
                Ok(Some(ready)) => ready,
                Ok(None) => continue,
                Err(not_reached) => {
                    let looked = self.look(When::InTime, deadline).await;
                    if looked.is_ok() && self.known().has_moved(slot, &place) {
                        failure = Some(not_reached);
                        continue;
                    }
                    return Err(not_reached);
                }
            };
            let failed = match ready.ask(&ask.asking(asking), deadline).await {
                Ok(said) => return Ok(said),
                Err(failed) => failed,
            };
            let Some(sent_on) = failed.sent_on(&at.0) else {
                // Another may have its place.
                if failed.next == Next::Retry {
                    self.look_beside(When::InTime);
                }
                return Err(failed);
            };
            slot = Some(sent_on.slot);
            match sent_on.to {
                Some(to) if sent_on.is_moved => {
                    self.known().moves(sent_on.slot, to);
                    self.look_beside(When::AtOnce);
                }
                Some(to) => asked = Some(to),
                None => self.look(When::AtOnce, deadline).await?,
            }
            failure = Some(failed);
        }
        Err(failure.map_or_else(Failure::unreached, Failure::not_found_yet))
    }

    /// Who has a slot; where that isn't known, somebody who can say it.
    async fn place(self: &Arc<Self>, slot: Option<HashSlot>, deadline: Instant) -> Result<At, Failure> {
        if let Some(at) = self.known().place(slot) {
            return Ok(at.clone());
        }
        if self.known().topology.masters().is_empty() {
            self.look(When::InTime, deadline).await?;
        }
        let known = self.known();
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        known.place(slot).or_else(|| known.any(next)).cloned().ok_or_else(Failure::unreached)
    }

    /// A connection to a server; or nothing, if the slot has another place by then.
    ///
    /// Where there is no connection, somebody else may be the master by now, and somebody else have its address. So that
    /// is looked at before one is made; and again while it is made, for a server that hangs takes long.
    async fn ready(
        self: &Arc<Self>,
        at: &At,
        apart: bool,
        slot: Option<HashSlot>,
        place: &At,
        deadline: Instant,
    ) -> Result<Option<Ready>, Failure> {
        let turn = self.server(at)?.turn(apart, deadline).await?;
        if turn.is_connected() {
            return turn.ready(deadline).await.map(Some);
        }
        self.look_if_long_ago(deadline).await;
        if self.known().has_moved(slot, place) {
            return Ok(None);
        }
        let elsewhere = async {
            loop {
                pause::until(Instant::now() + SOON).await;
                let looked = self.look(When::InTime, deadline).await;
                if looked.is_ok() && self.known().has_moved(slot, place) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            ready = turn.ready(deadline) => ready.map(Some),
            () = elsewhere => Ok(None),
        }
    }

    /// All that have slots, as they say after this was asked; and how many slots those are.
    pub(super) async fn masters(self: &Arc<Self>, deadline: Instant) -> Result<(Vec<At>, usize), Failure> {
        let before = self.known().begun;
        self.look(When::AtOnce, deadline).await?;
        // One may have been under way.
        if self.known().learned <= before {
            self.look(When::AtOnce, deadline).await?;
        }
        let known = self.known();
        Ok((known.topology.masters().to_vec(), known.topology.assigned()))
    }

    /// Whether those masters that are reached are such as a store may be opened on; and whether one is.
    pub(super) async fn fits(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        let mut asked = JoinSet::new();
        for at in self.masters(deadline).await?.0 {
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
        let mut servers: Vec<At> = self.known().topology.servers().cloned().collect();
        if servers.is_empty() {
            servers.clone_from(&self.nodes);
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed) % servers.len().max(1);
        servers.rotate_left(next);
        let mut failed = Failure::unreached();
        for at in servers {
            match timeout(LISTEN, self.server(&at)?.listener()).await {
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
        let more: Vec<At> = self.nodes.iter().filter(|node| !all.contains(node)).cloned().collect();
        all.extend(more);
        all
    }
}
