//! A call by itself, beside the batches: its slot was locked, or its batch failed.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Call, Refused, Shared};
use crate::error::Next;
use crate::operation::Operation;
use crate::pause;

impl<O: Operation> Shared<O> {
    /// Sends it, again and again, until it is answered, or nobody waits for it.
    pub(super) async fn single(self: Arc<Self>, call: Call<O>) {
        let (bounds, begun) = (&self.bounds, Instant::now());
        let mut failures = 0;
        let mut effect = call.progress.effect();
        let batch = [call];
        loop {
            // Who waits for a locked slot does so on places of its own, or a few such calls would keep all others
            // of a batch that fell apart from going out.
            let patient = bounds.is_locked(&batch[0].slot);
            let place = if patient { bounds.patient.acquire().await } else { bounds.singles.acquire().await };
            let (Ok(place), false) = (place, batch[0].reply.is_closed()) else { return };
            // The wait for a place is a wait for the lock too: many duplicates of one call wait as long as one.
            let lock_timeout = if patient { bounds.the_rest_since(begun) } else { bounds.briefly() };
            let wanted = |so_far: &_| {
                bounds.failed(so_far);
                !batch[0].reply.is_closed()
            };
            let failure = match self.link.connection_while(wanted).await {
                Err(failure) => failure,
                Ok(connection) => match self.send(connection, &batch, &lock_timeout).await {
                    Ok((mut said, _)) => {
                        bounds.went_well();
                        let [call] = batch;
                        if let Some(said) = said.pop() {
                            call.progress.set(effect);
                            bounds.forget(&call.slot);
                            let _ = call.reply.send((said.map_err(Refused::Failed), None));
                        }
                        return;
                    }
                    Err((failure, _)) => failure,
                },
            };
            drop(place);
            effect = effect.max(failure.effect);
            batch[0].progress.set(effect);
            let locked = failure.next == Next::Locked;
            if locked {
                bounds.remember(&batch[0].slot);
                if !patient {
                    continue;
                }
            }
            if failure.next != Next::Retry {
                let [call] = batch;
                let error = failure.into_error(self.operation.name(), effect);
                let refused = if locked { Refused::Locked(error) } else { Refused::Failed(error) };
                let _ = call.reply.send((Err(refused), None));
                return;
            }
            bounds.failed(&failure);
            pause::after(failures).await;
            failures += 1;
        }
    }
}
