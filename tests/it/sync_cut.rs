//! `metasync run` whose connection to the target's database breaks, wherever it stands: it says that trying again helps,
//! nothing is said to be further than before, and the next run brings the rest.

use metasync::metastore::Change;
use serde_json::json;
use tests::cut::Cut;
use tests::hms::{Kind, Version, fresh_database};
use tests::lake::Lake;
use tests::metastores::objects;

/// Bytes of the client that the first connection lets through: it breaks while the target is looked at.
const FIRST: u64 = 8000;
/// Partitions of each new table, all in one transaction.
const PARTITIONS: usize = 100;

/// A table of which nothing is on the target yet, and a change of one that is there.
fn change(lake: &Lake, round: usize) {
    let table = lake.table(&format!("t{round}"), &["dt"]);
    let partitions = (0..PARTITIONS).map(|day| objects::partition(&table, &[&day.to_string()])).collect();
    lake.apply(&[Change::PutPartitions { table: table.name.clone(), partitions }]);
    lake.write(&format!("sales.db/t{round}/dt=7/part-0"), "rows");
    let mut first = lake.unmade_table("first", &[]);
    first.parameters.insert("round".to_owned(), round.to_string());
    lake.apply(&[Change::PutTable(Box::new(first))]);
}

#[test]
fn a_connection_to_the_target_that_breaks_in_a_run_ends_it_as_temporary_and_the_next_one_is_in_step() {
    let Some(database) = fresh_database(Kind::Postgres, Version::V31) else { return };
    let lake = Lake::logged();
    lake.database("sales");
    lake.table("first", &[]);
    let root = lake.root().display().to_string();
    let policy = |target: &str| {
        let text = format!(
            "name = \"sales\"\nstate = \"{root}/state\"\ndatabases = [\"sales\"]\n\
             source.metastore = \"sqlite://{root}/source.db\"\ntarget.metastore = \"{target}\"\n\
             [[locations]]\nfrom = \"file:{root}/source\"\nto = \"file:{root}/target\"\n\
             [options]\nmax_drops = \"100%\"\n"
        );
        std::fs::write(lake.root().join("p.toml"), text).unwrap();
    };
    policy(&database.url);
    lake.metasync("run", &[]).expect(0);
    let (login, rest) = database.url.rsplit_once('@').unwrap();
    let (address, name) = rest.split_once('/').unwrap();
    let (mut bytes, mut round, mut half_done) = (FIRST, 0, 0);
    loop {
        change(&lake, round);
        let known = lake.status();
        let cut = Cut::after(address, bytes);
        policy(&format!("{login}@{}/{name}", cut.address()));
        let ran = lake.metasync("run", &[]);
        policy(&database.url);
        if !cut.is_broken() {
            assert_eq!(ran.code, 0, "after {bytes} bytes: {}\n{}", ran.stdout, ran.stderr);
            break;
        }
        assert_eq!(ran.code, 75, "after {bytes} bytes: {}\n{}", ran.stdout, ran.stderr);
        let status = lake.status();
        assert_eq!((&status["event"], &status["as_of"]), (&known["event"], &known["as_of"]), "after {bytes} bytes");
        let count = |from: &str| {
            let sql = format!("select count(*) from {from} where \"TBL_NAME\" = 't{round}'");
            database.run(&sql).concat().concat().parse::<usize>().unwrap()
        };
        let (made, partitions) = (count("\"TBLS\""), count("\"PARTITIONS\" join \"TBLS\" using (\"TBL_ID\")"));
        assert_eq!(
            partitions,
            made * PARTITIONS,
            "after {bytes} bytes: a table comes with its partitions, or not at all"
        );
        half_done += usize::from(status["pending"] != json!([]) && made == 0);
        if round % 3 == 2 {
            lake.metasync("run", &[]).expect(0);
            lake.metasync("verify", &[]).expect(0);
        }
        bytes *= 2;
        round += 1;
    }
    assert!(round >= 5 && half_done >= 1, "it broke {round} times, {half_done} of them after the intent");
    lake.metasync("verify", &[]).expect(0);
    assert_eq!(lake.metasync("run", &[]).expect(0).number("tables/touched"), 0);
    assert_eq!(lake.files(&lake.source("")), lake.files(&lake.target("")));
}
