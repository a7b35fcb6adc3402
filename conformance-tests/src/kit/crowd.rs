//! Many callers at once, through clients of their own.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use oncekey_core::{Grant, IdempotencyAdmin, ReservationOutcome};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::expect::{Reserving as _, failed};
use super::{Desk, Stage};
use crate::case::Failure;

/// How often a race is run.
pub(crate) const ROUNDS: usize = 8;
/// How many take part in it.
pub(crate) const CALLERS: usize = 12;
/// Through how many clients.
pub(crate) const CLIENTS: usize = 4;

/// Several independent clients of a stage.
#[derive(Debug)]
pub(crate) struct Crowd {
    clients: Vec<Arc<dyn IdempotencyAdmin>>,
    random: Mutex<fastrand::Rng>,
}

impl Crowd {
    /// With so many clients.
    pub(crate) fn new(stage: &Stage, clients: usize) -> Result<Self, Failure> {
        let clients = (0..clients).map(|_| stage.client()).collect::<Result<_, _>>()?;
        Ok(Self { clients, random: Mutex::new(stage.random()) })
    }

    /// The desk as the caller of this number sees it.
    pub(crate) fn desk(&self, desk: &Desk, number: usize) -> Desk {
        desk.through(Arc::clone(&self.clients[number % self.clients.len()]))
    }

    /// Runs `count` tasks, the same for all but their number; they start together, in an order drawn anew
    /// each time: without it the last one at the barrier goes first, and a store that never waits has served it
    /// before anybody else is awake. Their results are in the order of their numbers.
    pub(crate) async fn rush<T, F>(
        &self,
        desk: &Desk,
        count: usize,
        task: impl Fn(usize, Desk) -> F,
    ) -> Result<Vec<T>, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let start = Arc::new(Barrier::new(count));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (start, work) = (Arc::clone(&start), task(number, self.desk(desk, number)));
            let behind = self.random.lock().unwrap_or_else(PoisonError::into_inner).u32(..4);
            tasks.spawn(async move {
                start.wait().await;
                for _ in 0..behind {
                    tokio::task::yield_now().await;
                }
                (number, work.await)
            });
        }
        let mut results = Vec::with_capacity(count);
        while let Some(ended) = tasks.join_next().await {
            let (number, result) = ended?;
            results.push((number, result?));
        }
        results.sort_by_key(|(number, _)| *number);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

/// All reserve at once, each for itself.
pub(crate) async fn rush(s: &Stage, crowd: &Crowd, desk: &Desk) -> Result<Vec<ReservationOutcome>, Failure> {
    let who = s.caller();
    crowd.rush(desk, CALLERS, |_, desk| async move { desk.reserve(&who.other()).await }).await
}

/// The one grant among these; all others are in flight.
#[track_caller]
pub(crate) fn one_granted(outcomes: Vec<ReservationOutcome>) -> Result<Grant, Failure> {
    let told = format!("one Reserved, and InFlight for the others, among {outcomes:?}");
    let mut granted = Vec::new();
    for outcome in outcomes {
        match outcome {
            ReservationOutcome::Reserved(grant) => granted.push(grant),
            ReservationOutcome::InFlight(_) => {}
            _ => return Err(failed(told)),
        }
    }
    match granted.pop() {
        Some(grant) if granted.is_empty() => Ok(grant),
        _ => Err(failed(told)),
    }
}

/// A slot whose holder has lapsed, and its grant.
pub(crate) async fn lapsed(s: &Stage) -> Result<(Desk, Grant), Failure> {
    let desk = s.slot()?;
    let grant = desk.reserve(&s.brief()).await?.granted()?;
    s.lapse().await;
    Ok((desk, grant))
}
