//! Where the copies of all trees meet: each waits between copying and deleting until the last has copied and metadata has
//! changed. A crash while they wait leaves copies that no metadata names yet; the next run finds them by the jobs' journals.

use super::{JOBS_AT_ONCE, Tree};
use distcp::copy::Ends;
use distcp::error::{Failure, Result};
use distcp::job::Gate;
use distcp::run::{self, Report};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// The gate of one job.
struct Door {
    at: usize,
    arrivals: mpsc::UnboundedSender<(usize, Ends)>,
    decision: watch::Receiver<Option<Arc<Vec<bool>>>>,
    permits: Arc<Semaphore>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Door {
    fn keep(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

#[async_trait::async_trait]
impl Gate for Door {
    async fn copied(&self, ends: &Ends) -> bool {
        self.keep(None);
        // Nobody listens any more: nothing was decided.
        if self.arrivals.send((self.at, *ends)).is_err() {
            return false;
        }
        let mut decision = self.decision.clone();
        let decided = match decision.wait_for(Option::is_some).await {
            Ok(decided) => decided.as_ref().and_then(|each| each.get(self.at).copied()),
            Err(_) => None,
        };
        self.keep(Arc::clone(&self.permits).acquire_owned().await.ok());
        decided.unwrap_or(false)
    }
}

/// Copies all trees; then asks `between`, which of them may delete, with those that copied without a failure; then deletes.
/// Returns how each ended.
pub async fn carry<E>(
    trees: &[Tree],
    between: impl AsyncFnOnce(&[Option<Ends>]) -> Result<Vec<bool>, E>,
) -> Result<Vec<Report>, E> {
    let (send, mut arrivals) = mpsc::unbounded_channel();
    let (decide, decision) = watch::channel(None);
    let permits = Arc::new(Semaphore::new(JOBS_AT_ONCE));
    let mut running = FuturesUnordered::new();
    for (at, tree) in trees.iter().enumerate() {
        let door = Arc::new(Door {
            at,
            arrivals: send.clone(),
            decision: decision.clone(),
            permits: permits.clone(),
            permit: Mutex::new(None),
        });
        let mut job = tree.job.clone();
        job.gate = Some(door.clone());
        let permits = permits.clone();
        running.push(async move {
            door.keep(permits.acquire_owned().await.ok());
            let report = run::copy(&job).await;
            door.keep(None);
            (at, report)
        });
    }
    let mut copied: Vec<Option<Ends>> = trees.iter().map(|_| None).collect();
    let mut reports: Vec<Option<Report>> = trees.iter().map(|_| None).collect();
    let mut waiting = trees.len();
    while waiting > 0 {
        tokio::select! {
            Some((at, ends)) = arrivals.recv() => copied[at] = Some(ends),
            Some((at, report)) = running.next() => reports[at] = Some(report),
            else => break,
        }
        waiting -= 1;
    }
    let decided = between(&copied).await;
    let each = match &decided {
        Ok(each) => each.clone(),
        Err(_) => vec![false; trees.len()],
    };
    let _ = decide.send(Some(Arc::new(each)));
    while let Some((at, report)) = running.next().await {
        reports[at] = Some(report);
    }
    decided?;
    let lost = |tree: &Tree| {
        let mut summary = distcp::summary::Summary::new("copy", tree.job.name.as_str());
        let failure = Failure::new(distcp::exit::ExitCode::Failed, format!("the copy of {} broke off", tree.root.from));
        summary.end(failure.code);
        Report { summary, failure: Some(failure) }
    };
    Ok(reports.into_iter().zip(trees.iter()).map(|(report, tree)| report.unwrap_or_else(|| lost(tree))).collect())
}
