//! `metasync metastore dump`: every object of a metastore as a line of JSON, in an order that is always the same.
//!
//! Reads only, in one snapshot where the metastore has such a thing. Volatile parts are left out, so that the dumps of two
//! metastores that are in step are equal, byte for byte.

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::counted;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use metasync::metastore::Error;
use metasync::volatile::strip;
use metasync::walk::walk;

use super::{failure, metastore};

const CODES: [ExitCode; 6] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Partial, ExitCode::Permission, ExitCode::Temporary];

const EXAMPLE: &str = "metasync metastore dump thrift://hms-primary:9083 > primary.jsonl
metasync metastore dump postgres://hive@replica-db/metastore > replica.jsonl
diff primary.jsonl replica.jsonl";

/// Print every object of a metastore as sorted JSON lines
///
/// One object a line: catalogs, roles and privileges, then databases with their functions, tables and partitions. What
/// servers change by themselves (creation times, transient_lastDdlTime, the state of replication) is left out, so that
/// two dumps can be compared with diff. An object that cannot be read is named on stderr, and the exit code is 3.
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct DumpVerb {
    /// The metastore
    url: String,
}

/// What ends a walk.
enum End {
    ReaderGone,
    Stopped,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &DumpVerb) -> Result<ExitCode> {
    let output = &shell.output;
    let metastore = metastore(shell, &verb.url).await?;
    let snapshot = metastore.snapshot().await.map_err(failure)?;
    let mut damaged = 0;
    let walked = walk::<End>(snapshot.as_ref(), &mut |step| {
        if output.reader_gone().is_cancelled() {
            return Err(End::ReaderGone);
        }
        if shell.stop.token.is_cancelled() {
            return Err(End::Stopped);
        }
        match step {
            Ok(mut object) => {
                strip(&mut object);
                output.json(&object);
            }
            Err(broken) => {
                damaged += 1;
                output.error(format!("{}: {}", broken.object, broken.why));
            }
        }
        Ok(())
    })
    .await;
    match walked {
        Ok(()) if damaged == 0 => Ok(shell.done("metastore dump", ExitCode::Done)),
        Ok(()) => Err(Failure::new(
            ExitCode::Partial,
            format!(
                "{} in {} and not printed",
                counted(damaged, "object is damaged", "objects are damaged"),
                metastore.place()
            ),
        )),
        Err(End::ReaderGone) => Ok(ExitCode::Done),
        Err(End::Stopped) => Err(Failure::new(shell.interruption(), "stopped before the end; the dump is not whole")),
        Err(End::Failed(error)) => Err(failure(error)),
    }
}
