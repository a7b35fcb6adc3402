//! A call that finds nobody else: its caller's own task sends it, and no other has to be woken for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use super::{Call, Runner, Shared};
use crate::bounds::{Bounds, held};
use crate::operation::Operation;

/// The statement of a lone call. It holds its caller's call and no other, or a caller that isn't polled for a
/// while would be in everybody's way; dropped half-way it goes on as a task of its own.
pub(super) struct Lone {
    running: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    runtime: Handle,
}

/// One in a store at a time: so many connections may a caller that isn't polled keep from the others.
struct Place(Arc<Bounds>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lone.store(false, Ordering::Release);
    }
}

impl<O: Operation> Shared<O> {
    /// The statement of this call alone, if there is a connection that batches don't use just now. Behind a pooler
    /// it is one of several, and a caller that isn't polled between them would hold the row's lock.
    pub(super) fn lone(self: &Arc<Self>, call: Call<O>) -> Result<Lone, Call<O>> {
        if self.link.pooled || self.bounds.lone.swap(true, Ordering::AcqRel) {
            return Err(call);
        }
        let place = Place(Arc::clone(&self.bounds));
        let Some(connection) = self.link.kept() else { return Err(call) };
        let runner = Runner { shared: Arc::clone(self), counted: false };
        let running = Box::pin(async move {
            let connection = runner.batch(connection, vec![call]).await;
            if let Some(connection) = connection {
                runner.shared.link.keep(connection);
            }
            runner.shared.start(held(&runner.shared.queue));
            drop(place);
        });
        Ok(Lone { running: Some(running), runtime: Handle::current() })
    }
}

impl Future for Lone {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(running) = &mut self.running else { return Poll::Ready(()) };
        let polled = running.as_mut().poll(cx);
        if polled.is_ready() {
            self.running = None;
        }
        polled
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Whoever drops a connection needs the runtime at hand, also where it is no longer running.
            let _entered = self.runtime.enter();
            self.runtime.spawn(running);
        }
    }
}
