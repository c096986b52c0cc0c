//! One budget of bytes for all content in memory: who wants to hold some takes it first, and gives it back by dropping.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Budget is handed out in units of this many bytes.
const UNIT_BYTES: u64 = 16 << 10;

/// A bound on bytes held at once.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from((bytes / UNIT_BYTES).max(1)).unwrap_or(u32::MAX >> 4);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits for `bytes`; a wish above the whole budget gets the whole. First come, first served: a large wish is not
    /// starved by small ones.
    pub async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.total);
        self.units.clone().acquire_many_owned(units).await.ok()
    }
}
