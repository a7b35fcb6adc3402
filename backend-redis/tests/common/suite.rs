//! The suite's harness: each case gets a prefix of its own, each client a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncekey_conformance::{BoxError, Harness, Namespace, ShiftTime, TimeControl};
use oncekey_redis::{ClockOffset, async_trait};

/// Stores on a deployment.
#[derive(Debug)]
pub struct Prefixes {
    name: &'static str,
    url: String,
}

impl Prefixes {
    /// On the one that this URL names.
    pub fn of(name: &'static str, url: impl Into<String>) -> Self {
        Self { name, url: url.into() }
    }
}

/// A store's clock, for the suite to move.
pub struct Clock(pub ClockOffset);

impl ShiftTime for Clock {
    fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
    fn rewind(&self, by: Duration) -> bool {
        self.0.rewind(by);
        true
    }
}

#[async_trait]
impl Harness for Prefixes {
    fn name(&self) -> &str {
        self.name
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("suite-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = ClockOffset::shiftable();
        let builder = super::builder().prefix(prefix).clock_offset(offset.clone());
        let url = self.url.clone();
        let connect = move || Ok(Arc::new(builder.clone().connect_lazy(&url)?) as _);
        Ok(Namespace::new(TimeControl::Shift(Arc::new(Clock(offset))), connect))
    }
}
