//! [`Call`]: one call of the store's, and its tries.

use oncekey_core::{Effect, StoreError};
use redis::{Cmd, Value};
use tokio::time::Instant;

use crate::builder::Wait;
use crate::error::{Failure, Next};
use crate::pause;
use crate::script::Script;
use crate::store::Inner;

/// Adds the arguments of a script.
pub(crate) type Arguments<'a> = &'a (dyn Fn(&mut Cmd) + Send + Sync);

/// A call of the store's: its name, its deadline, and what its tries may have done.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) deadline: Instant,
    pub(crate) effect: Effect,
    writes: bool,
}

impl Call {
    pub(crate) fn writing(name: &'static str, inner: &Inner) -> Self {
        Self { name, deadline: inner.deadline(), effect: Effect::NotApplied, writes: true }
    }

    pub(crate) fn reading(name: &'static str, deadline: Instant) -> Self {
        Self { name, deadline, effect: Effect::NotApplied, writes: false }
    }

    /// What is made of an answer, where that is an error: an earlier try may have done something all the same (S7).
    pub(crate) fn made<T>(&self, of: Result<T, StoreError>) -> Result<T, StoreError> {
        of.map_err(|error| error.or_worse(self.effect))
    }

    pub(crate) fn failed(&self, failure: Failure) -> StoreError {
        let failure = if self.writes { failure } else { failure.not_applied() };
        failure.into_error(self.name, self.effect)
    }
}

impl Wait {
    /// Whether as many as were asked for have it.
    fn check(&self, waited: Value) -> Result<(), Failure> {
        match waited {
            Value::Int(had) if !self.on_disk => {
                let enough = had >= i64::from(self.replicas);
                let asked = format!("{} replicas were to have it", self.replicas);
                if enough { Ok(()) } else { Err(Failure::too_few(&asked, had)) }
            }
            Value::Array(each) => {
                let [Value::Int(local), Value::Int(had)] = each[..] else { return Err(Failure::nonsense()) };
                let enough = local >= i64::from(self.local) && had >= i64::from(self.replicas);
                let asked = format!("this disk and those of {} replicas were to have it", self.replicas);
                if enough { Ok(()) } else { Err(Failure::too_few(&asked, local + had)) }
            }
            Value::ServerError(error) => Err(Failure::waiting(error.into())),
            _ => Err(Failure::nonsense()),
        }
    }
}

/// Why a script gave no answer.
pub(crate) enum Ended {
    /// Memory is full, and nothing was done.
    Full(StoreError),
    Failed(StoreError),
}

impl From<Ended> for StoreError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Full(error) | Ended::Failed(error) => error,
        }
    }
}

impl Inner {
    /// Runs a script on a slot, again and again while what fails may pass.
    pub(crate) async fn run(
        &self,
        call: &mut Call,
        script: &Script,
        key: &str,
        arguments: Arguments<'_>,
    ) -> Result<Value, Ended> {
        let (mut failures, mut last) = (0, None);
        // A server that doesn't know the digest would wait all the same, for nothing, and answer only then.
        let mut in_full = call.writes && self.settings.wait.is_some();
        loop {
            let mut cmd = if in_full { script.in_full(key) } else { script.on(key) };
            arguments(&mut cmd);
            let failure = match self.send(call, &cmd).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if call.writes {
                call.effect = call.effect.max(failure.effect);
            }
            let failure = failure.unless_late(last);
            match failure.next {
                // Nothing was done, and it is asked again at once; but once.
                Next::InFull if !in_full => {
                    (in_full, last) = (true, None);
                    continue;
                }
                Next::Full => return Err(Ended::Full(call.failed(failure))),
                Next::Retry if Instant::now() < call.deadline => {}
                _ => return Err(Ended::Failed(call.failed(failure))),
            }
            pause::after_by(failures, call.deadline).await;
            failures += 1;
            if Instant::now() >= call.deadline {
                return Err(Ended::Failed(call.failed(failure)));
            }
            last = Some(failure);
        }
    }

    /// Does what writes nothing, again and again while what fails may pass.
    pub(crate) async fn again<T, F: Future<Output = Result<T, Failure>>>(
        call: &Call,
        once: impl Fn(Instant) -> F,
    ) -> Result<T, StoreError> {
        let (mut failures, mut last) = (0, None);
        loop {
            let failure: Failure = match once(call.deadline).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let failure = failure.unless_late(last);
            if failure.next != Next::Retry || Instant::now() >= call.deadline {
                return Err(call.failed(failure));
            }
            pause::after_by(failures, call.deadline).await;
            failures += 1;
            if Instant::now() >= call.deadline {
                return Err(call.failed(failure));
            }
            last = Some(failure);
        }
    }

    async fn send(&self, call: &Call, cmd: &Cmd) -> Result<Value, Failure> {
        let wait = match &self.settings.wait {
            Some(wait) if call.writes => wait,
            _ => return self.link.send(cmd, call.deadline).await,
        };
        // Never 0, by which the server means for ever.
        let within = u64::try_from(wait.within.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut then = Cmd::new();
        if wait.on_disk {
            then.arg("WAITAOF").arg(u8::from(wait.local)).arg(wait.replicas).arg(within);
        } else {
            then.arg("WAIT").arg(wait.replicas).arg(within);
        }
        let [said, waited] = self.link.send_both(cmd, &then, call.deadline).await?;
        wait.check(waited)?;
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use oncekey_core::ErrorKind;

    use super::*;

    fn call(writes: bool, effect: Effect) -> Call {
        Call { name: "complete", deadline: Instant::now(), effect, writes }
    }

    /// S7: what can't be read now doesn't undo what an earlier try may have written.
    #[test]
    fn an_answer_that_is_an_error_keeps_the_effect_of_earlier_tries() {
        let corrupt =
            || Err::<(), _>(StoreError::new(ErrorKind::Corrupt, "complete", Effect::NotApplied, "cut"));
        for effect in [Effect::NotApplied, Effect::Unknown] {
            assert_eq!(call(true, effect).made(corrupt()).unwrap_err().effect(), effect);
        }
        assert!(call(true, Effect::Unknown).made(Ok(())).is_ok());
    }

    #[test]
    fn a_failed_read_had_no_effect_and_a_failed_write_may_have() {
        assert_eq!(call(false, Effect::NotApplied).failed(Failure::no_answer()).effect(), Effect::NotApplied);
        assert_eq!(call(true, Effect::NotApplied).failed(Failure::no_answer()).effect(), Effect::Unknown);
        assert_eq!(
            call(true, Effect::Unknown).failed(Failure::no_connection_yet()).effect(),
            Effect::Unknown
        );
    }

    #[test]
    fn a_write_is_acknowledged_once_as_many_as_were_asked_for_have_it() {
        let wait =
            |local, on_disk, replicas| Wait { local, replicas, on_disk, within: std::time::Duration::ZERO };
        let two = wait(false, false, 2);
        assert!(two.check(Value::Int(2)).is_ok() && two.check(Value::Int(3)).is_ok());
        let few = two.check(Value::Int(1)).unwrap_err();
        assert_eq!((few.effect, few.next), (Effect::Unknown, Next::Retry));
        let disks = wait(true, true, 1);
        let said = |local, replicas| Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
        assert!(disks.check(said(1, 1)).is_ok());
        for (local, replicas) in [(0, 1), (1, 0), (0, 0)] {
            assert_eq!(disks.check(said(local, replicas)).unwrap_err().effect, Effect::Unknown);
        }
        assert!(two.check(said(1, 1)).is_err() && disks.check(Value::Int(1)).is_err());
    }
}
