//! What the demo tells, step by step, and what it checks of each.

use super::shop::{DATABASE, REPLICA, Replica, Shop, TABLES_IN_ALL, day, policy};
use distcp::console::demo::{
    Amount, Ended, Teller, amount_text, check, check_at_most, damage, measured, on_disk, took,
};
use distcp::console::output::{bytes_text, grouped};
use distcp::error::Result;
use distcp::exit::ExitCode;
use serde_json::Value;
use std::path::Path;

/// The policy.
const POLICY: &str = "shop.toml";
/// The same with a limit.
const SLOW_POLICY: &str = "slow.toml";
/// The limit: slow enough that a run is in the middle when it is killed.
const SLOW: &str = "24M";
/// It is killed after this many objects arrived.
const KILL_AFTER: u64 = 6;
/// Days of orders of the start.
const DAYS: u32 = 90;
/// Days of orders that come with the run that is killed.
const LATE_DAYS: u32 = 24;
/// The file that is damaged, below the table's folder.
const DAMAGED: &str = "part-00000.parquet";

struct Story<'a, 'b> {
    teller: &'a mut Teller<'b>,
    shop: Shop,
    replica: Replica,
}

/// Tells the whole story in `folder`.
pub async fn tell(teller: &mut Teller<'_>, folder: &Path) -> Result<()> {
    teller.title("A shop's lake");
    let (shop, whole, partitions) = Shop::build(folder).await?;
    let text = policy(folder, "");
    let slow = policy(folder, &format!("[options]\nbwlimit = \"{SLOW}\"\n"));
    let (path, slow_path, written) = (folder.join(POLICY), folder.join(SLOW_POLICY), text.clone());
    on_disk(move || std::fs::write(path, written).and_then(|()| std::fs::write(slow_path, slow))).await?;
    teller.say(format!(
        "In {} there is now a lake: {TABLES_IN_ALL} tables with {partitions} partitions in ./source.db, a metastore as Hive \
         has them, but in SQLite; their rows in ./lake, {} of Parquet. ./{POLICY} says what is to be kept in step:",
        folder.display(),
        amount_text(whole)
    ));
    teller.quote(text.lines());
    teller.say("Each command below is this program; it also gets --json, from which the numbers are read.");
    let mut story = Story { teller, shop, replica: Replica::of(folder) };
    story.bootstrap(whole).await?;
    story.status().await?;
    let whole = story.day(whole).await?;
    let whole = story.killed(whole).await?;
    story.damaged(whole).await?;
    story.teller.title("That was it");
    story.teller.say(
        "Everything came out as told. With metastores of your own (thrift://, postgres://, mysql://) and data in s3://, \
         gs://, az://, hdfs:// it is the same: a policy, and a line for cron:",
    );
    story.teller.quote(["*/5 * * * *  metasync run /etc/understudy/sales.toml"]);
    story.teller.say("For what each verb takes: metasync VERB --help.");
    Ok(())
}

impl Story<'_, '_> {
    async fn bootstrap(&mut self, whole: Amount) -> Result<()> {
        self.teller.title("The first run");
        self.teller.say(
            "There is no replica yet. A run brings everything: each file is read once, hashed while it passes through and \
             written; then the tables that name the files are made.",
        );
        let run = self.teller.run(&["run", POLICY], ExitCode::Done).await?;
        check("runs that were a bootstrap", u64::from(run.summary["mode"] == "bootstrap"), 1)?;
        check("tables made", run.number("/tables/applied")?, TABLES_IN_ALL)?;
        check("objects copied", run.number("/counts/copied")?, whole.files)?;
        check("bytes written", run.number("/bytes/written")?, whole.bytes)?;
        self.holds(whole).await?;
        self.teller.saw(format!("{TABLES_IN_ALL} tables, {} in {}.", amount_text(whole), took(&run)?));
        self.teller.say(
            "The same again has nothing to do: both metastores are compared, the folders listed, nothing is read.",
        );
        let run = self.teller.run(&["run", POLICY], ExitCode::Done).await?;
        nothing_to_do(&run, whole)?;
        self.teller.saw(format!("{} objects equal, 0 bytes read, in {}.", grouped(whole.files), took(&run)?));
        Ok(())
    }

    async fn status(&mut self) -> Result<()> {
        self.teller.title("How old is it?");
        self.teller.say("status says which moment of the source the replica shows, and what is not in step.");
        let status = self.teller.run(&["status", POLICY], ExitCode::Done).await?;
        let line = status.lines.first().cloned().unwrap_or_default();
        let number = |name: &str| line[name].as_u64().unwrap_or(u64::MAX);
        check("tables in step", number("in_step"), TABLES_IN_ALL)?;
        check("events behind", number("events_behind"), 0)?;
        let as_of = line["as_of"].as_str().unwrap_or_default();
        check("moments that the replica shows", u64::from(!as_of.is_empty()), 1)?;
        self.teller.saw(format!("as-of {as_of}, no event behind; {TABLES_IN_ALL} tables in step."));
        Ok(())
    }

    async fn day(&mut self, whole: Amount) -> Result<Amount> {
        self.teller.title("A day of changes");
        let shop = &mut self.shop;
        let orders = shop.table("orders").await?;
        let visits = shop.table("visits").await?;
        let mut added = shop.insert(&orders, &[&day(DAYS - 1)], "part-00001.parquet", true).await?;
        added += shop.add_partitions(&orders, vec![vec![day(DAYS)], vec![day(DAYS + 1)]]).await?;
        shop.drop_partition(&visits, &[&day(0), "at"]).await?;
        shop.rename("returns", "refunds").await?;
        let stock = shop.add_column("stock").await?;
        added += shop.add_partitions(&stock, vec![vec![day(40)]]).await?;
        added += shop.insert(&visits, &[&day(7), "de"], "part-00009.parquet", false).await?;
        let after = Amount {
            files: whole.files + added.files - 1,
            bytes: whole.bytes + added.bytes - whole.bytes / whole.files,
        };
        self.teller.say(format!(
            "An insert and two new days in orders, a dropped partition in visits, returns is called refunds now, stock has a \
             new column and a day with it: {} to bring. And a file was put into visits by hand: no event tells of it. plan \
             says what a run would do:",
            amount_text(added)
        ));
        let before = measured(&self.replica.data()).await?;
        let plan = self.teller.run(&["plan", POLICY], ExitCode::Done).await?;
        let lines = plan.lines.iter().filter(|line| line["type"] == "step").map(step_text).collect::<Vec<_>>();
        self.teller.quote(lines.iter().map(String::as_str));
        check("steps of the plan", lines.len() as u64, 6)?;
        self.holds(before).await?;
        let run = self.teller.run(&["run", POLICY], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, added.files)?;
        check("bytes written", run.number("/bytes/written")?, added.bytes)?;
        check("objects deleted", run.number("/counts/deleted")?, 1)?;
        check("events of the day", run.number("/events/applied")?, 6)?;
        check(
            "columns of stock on the replica",
            self.replica.columns("stock").await?,
            stock.storage.columns.len() as u64,
        )?;
        check("partitions of refunds on the replica", self.replica.partitions("refunds").await?, 20)?;
        let after = Amount { bytes: measured(&self.replica.data()).await?.bytes, ..after };
        self.holds(after).await?;
        self.teller.saw(format!(
            "copied {} and deleted 1 file in {}; the renamed table kept its files, and the file of which no event told is \
             there, too.",
            amount_text(added),
            took(&run)?
        ));
        Ok(after)
    }

    async fn killed(&mut self, whole: Amount) -> Result<Amount> {
        self.teller.title("Killed in the middle");
        let orders = self.shop.table("orders").await?;
        let days = (DAYS + 2..DAYS + 2 + LATE_DAYS).map(|at| vec![day(at)]).collect();
        let there = self.replica.partitions("orders").await?;
        let added = self.shop.add_partitions(&orders, days).await?;
        self.teller.say(format!(
            "{LATE_DAYS} days of orders arrive at once: {}. A run under ./{SLOW_POLICY}, which is the same with bwlimit = \
             \"{SLOW}\", is killed (kill -9) after {KILL_AFTER} of the files.",
            amount_text(added)
        ));
        let copied = |lines: &[Value]| arrived(lines) >= KILL_AFTER;
        let killed = self.teller.run_and_kill(&["run", SLOW_POLICY], copied).await?;
        let arrived = arrived(&killed.lines);
        check("partitions of orders on the replica", self.replica.partitions("orders").await?, there)?;
        self.teller.saw(format!(
            "killed; {arrived} files had arrived. Its readers see none of them: a partition is named when its files are there."
        ));
        self.teller.say("The next run sees that the holder of the lease is gone, takes over, and does the rest.");
        let run = self.teller.run(&["run", POLICY], ExitCode::Done).await?;
        let rest = run.number("/counts/copied")?;
        check_at_most("objects copied by the next run", rest, added.files - arrived)?;
        check(
            "partitions of orders on the replica",
            self.replica.partitions("orders").await?,
            there + u64::from(LATE_DAYS),
        )?;
        let after = Amount { files: whole.files + added.files, bytes: whole.bytes + added.bytes };
        self.holds(after).await?;
        self.teller.saw(format!(
            "copied the remaining {rest} files ({}) in {}; what had arrived was not sent again.",
            bytes_text(run.number("/bytes/written")?),
            took(&run)?
        ));
        Ok(after)
    }

    async fn damaged(&mut self, whole: Amount) -> Result<()> {
        self.teller.title("A replica that somebody touched");
        let folder = format!("{DATABASE}.db/orders/dt={}", day(3));
        let path = self.replica.data().join(&folder).join(DAMAGED);
        on_disk(move || damage(&path)).await?;
        let lost = day(11);
        self.replica.forget_partition("orders", &[&lost]).await?;
        self.teller.say(format!(
            "One bit in ./{REPLICA}/{folder}/{DAMAGED} was flipped, its size and time left as they were; and somebody dropped \
             the partition dt={lost} of orders in the replica's metastore. verify --level content reads everything, on both \
             sides:"
        ));
        let verify = self.teller.run(&["verify", "--level", "content", POLICY], ExitCode::Differs).await?;
        let named = |mark: &str, object: &str| {
            let is =
                |line: &&Value| line["mark"] == mark && line["object"].as_str().is_some_and(|it| it.ends_with(object));
            verify.lines.iter().filter(is).count() as u64
        };
        check("differences", verify.lines.len() as u64, 2)?;
        check("lines that name the damaged file", named("differ", &format!("{folder}/{DAMAGED}")), 1)?;
        check(
            "lines that name the partition",
            named("only_source", &format!("partition dt={lost} of {DATABASE}.orders")),
            1,
        )?;
        self.teller.saw("exit code 4; it names the partition, and the file:");
        let lines = verify.lines.iter().map(|line| {
            let sign = if line["mark"] == "differ" { "*" } else { "-" };
            format!("{sign} {}", line["object"].as_str().unwrap_or_default())
        });
        self.teller.quote(lines.collect::<Vec<_>>().iter().map(String::as_str));
        self.teller.say("Was the replica promoted, and is written to? A run does not guess, it refuses:");
        let refused = self.teller.run(&["run", POLICY], ExitCode::Refused).await?;
        check("partitions of orders that the run made", self.replica.partitions("orders").await?, 115)?;
        self.teller.saw(format!("exit code 5: {}", refused.last_line));
        self.teller.say("It was a mistake. resync brings the table as the source has it, and trusts nothing about it:");
        let resync = self.teller.run(&["resync", "--table", "shop.orders", POLICY], ExitCode::Done).await?;
        check("objects copied", resync.number("/counts/copied")?, 1)?;
        check("tables mended", resync.number("/tables/applied")?, 1)?;
        self.teller.saw(format!("1 table and 1 file mended in {}.", took(&resync)?));
        self.teller.run(&["verify", "--level", "content", POLICY], ExitCode::Done).await?;
        self.teller.saw("no difference in metadata, none in data.");
        let run = self.teller.run(&["run", POLICY], ExitCode::Done).await?;
        nothing_to_do(&run, whole)?;
        self.teller.saw(format!("in step, nothing to do, in {}.", took(&run)?));
        Ok(())
    }

    /// Checks what the replica's folders hold.
    async fn holds(&self, whole: Amount) -> Result<()> {
        let found = measured(&self.replica.data()).await?;
        check("files of the replica", found.files, whole.files)?;
        check("bytes of the replica", found.bytes, whole.bytes)
    }
}

fn nothing_to_do(run: &Ended, whole: Amount) -> Result<()> {
    check("tables changed", run.number("/tables/touched")?, 0)?;
    check("objects equal", run.number("/counts/equal")?, whole.files)?;
    check("objects copied", run.number("/counts/copied")?, 0)?;
    check("bytes read", run.number("/bytes/read")?, 0)
}

/// How many objects a run has copied so far.
fn arrived(lines: &[Value]) -> u64 {
    lines.iter().filter(|line| line["outcome"] == "copied").count() as u64
}

/// A line of `plan` as it is printed for people.
fn step_text(line: &Value) -> String {
    let text = |field: &str| line[field].as_str().unwrap_or_default();
    match text("detail") {
        "" => format!("{} {}", text("step"), text("object")),
        detail => format!("{} {}: {detail}", text("step"), text("object")),
    }
}
