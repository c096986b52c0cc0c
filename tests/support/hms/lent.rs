//! Metastores that tests lend one another: a server takes seconds to start, and a test of a pair of them is over as soon.
//!
//! What is lent is nobody else's meanwhile, and holds no database but Hive's own when it is lent. Those that lie idle wait for
//! the next test that asks, warm, until the process of the tests ends.

use super::{Database, Hms, Kind, Version, fresh_database};
use crate::metastores::{adapters, contract};
use std::sync::{Mutex, PoisonError};

/// How many lie idle at most: each holds up to 40 connections to its database.
const MAX_IDLE: usize = 12;

/// Those that nobody has now.
static IDLE: Mutex<Vec<Standing>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Standing {
    // In this order: a server ends before its database.
    server: Hms,
    database: Database,
    version: Version,
    /// It has settings that another test does not ask for.
    is_odd: bool,
}

/// A metastore of the test's own until this is dropped.
#[derive(Debug)]
pub struct Lent {
    standing: Option<Standing>,
}

impl Lent {
    /// `thrift://127.0.0.1:PORT`
    pub fn thrift(&self) -> &str {
        &self.standing().server.thrift
    }

    /// What is behind it.
    pub fn database(&self) -> &Database {
        &self.standing().database
    }

    fn standing(&self) -> &Standing {
        self.standing.as_ref().expect("it is taken back only when this is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Nobody knows what a test that failed left behind.
        if let Some(standing) = self.standing.take().filter(|one| !one.is_odd && !std::thread::panicking()) {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(standing);
            let ended = (idle.len() > MAX_IDLE).then(|| idle.remove(0));
            // It takes a while to end.
            drop(idle);
            drop(ended);
        }
    }
}

/// A metastore of this version over this kind of database, with nothing in it; `None` as for [`super::shared`].
///
/// # Panics
/// If there is none idle and none can be started.
pub fn lend(version: Version, kind: Kind) -> Option<Lent> {
    loop {
        let found = {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            let at = idle.iter().position(|one| one.version == version && one.database.kind == kind);
            at.map(|at| idle.swap_remove(at))
        };
        match found {
            Some(standing) if empty(&standing.database) => return Some(Lent { standing: Some(standing) }),
            Some(_) => (),
            None => break,
        }
    }
    let database = fresh_database(kind, version)?;
    let server = Hms::start(version, &database.url);
    Some(Lent { standing: Some(Standing { server, database, version, is_odd: false }) })
}

/// A metastore that is lent to nobody else, with more settings; `None` as for [`super::shared`].
///
/// # Panics
/// If it cannot be started.
pub fn own(version: Version, kind: Kind, settings: &[(&str, &str)]) -> Option<Lent> {
    let database = fresh_database(kind, version)?;
    let server = Hms::start_with(version, &database.url, settings);
    Some(Lent { standing: Some(Standing { server, database, version, is_odd: true }) })
}

/// Takes away all databases but Hive's own, and the event log, whose ids go on; whether that went well.
fn empty(database: &Database) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cleared = runtime.block_on(async {
        let metastore = adapters::open_url(&database.url).await;
        let found = metastore.snapshot().await?.databases().await?;
        for left in found.iter().filter(|one| one.name.database != "default") {
            contract::clear(metastore.as_ref(), &left.name.database).await?;
        }
        anyhow::Ok(())
    });
    database.run_quoted("delete from `NOTIFICATION_LOG`");
    cleared.is_ok()
}
