//! `metasync plan` in numbers: what it counts is what the run right after does, and then there is nothing left to plan.

use metasync::metastore::Change;
use metasync::model::{PartitionName, TableName};
use serde_json::Value;
use tests::cli::Ran;
use tests::lake::Lake;

/// The steps of a plan.
struct Steps(Vec<Value>);

impl Steps {
    fn of(ran: &Ran) -> Self {
        let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        Self(lines.filter(|line: &Value| line["type"] == "step").collect())
    }

    /// Tables with these steps.
    fn tables(&self, step: &str) -> Vec<&str> {
        let of_it = self.0.iter().filter(|line| line["step"] == step);
        of_it.filter_map(|line| line["object"].as_str().unwrap().strip_prefix("table ")).collect()
    }

    /// A number before a word, in all details.
    fn sum(&self, what: &str) -> u64 {
        let details = self.0.iter().flat_map(|line| line["detail"].as_str().unwrap().split(", "));
        details
            .filter(|part| part.ends_with(what))
            .map(|part| part.split(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

/// A lake with a path of the policy, of which nothing is on the replica.
fn lake() -> Lake {
    let lake = Lake::logged();
    lake.database("sales");
    lake.policy("max_drops = \"100%\"\nmax_deletes = \"100%\"");
    let root = lake.root().display().to_string();
    let path = format!("[[paths]]\nfrom = \"{root}/jobs\"\nto = \"{root}/jobs_copy\"\ndelete = true\n");
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &format!("{path}[options]"))).unwrap();
    for name in ["a.jar", "b.jar"] {
        lake.write(&format!("../jobs/{name}"), name);
    }
    let orders = lake.table("orders", &["dt"]);
    for day in ["1", "2", "3"] {
        lake.partition(&orders, &[day], day);
    }
    let mut brief = lake.unmade_table("brief", &[]);
    brief.table_type = Some("MANAGED_TABLE".to_owned());
    brief.parameters.remove("EXTERNAL");
    lake.apply(&[Change::PutTable(Box::new(brief))]);
    for name in ["brief", "items"] {
        lake.write(&format!("sales.db/{name}/part-0"), name);
        lake.write(&format!("sales.db/{name}/part-1"), name);
    }
    lake.table("items", &[]);
    lake
}

/// A plan and the run after it: tables and objects by what is done with them.
fn agree(lake: &Lake) -> (Steps, Ran) {
    let planned = Steps::of(&lake.metasync("plan", &[]).expect(0));
    let ran = lake.metasync("run", &[]).expect(0);
    let tables = ["create", "alter", "drop"].map(|step| planned.tables(step).len() as u64).iter().sum::<u64>();
    assert_eq!(tables, ran.number("tables/applied"), "{:#?}\n{}", planned.0, ran.stdout);
    assert_eq!(tables, ran.number("tables/touched"), "{:#?}\n{}", planned.0, ran.stdout);
    let objects = (planned.sum(" to copy"), planned.sum(" to delete"));
    let done = (ran.number("counts/copied"), ran.number("counts/deleted"));
    assert_eq!(objects, done, "{:#?}\n{}", planned.0, ran.stdout);
    let after = lake.metasync("plan", &[]).expect(0);
    assert_eq!(Steps::of(&after).0, Vec::<Value>::new());
    assert!(after.stderr.contains("nothing to do: the replica is in step"), "{}", after.stderr);
    lake.assert_in_step();
    assert_eq!(lake.files(&lake.root().join("jobs")), lake.files(&lake.root().join("jobs_copy")));
    (planned, ran)
}

#[test]
fn a_plan_counts_what_the_run_after_it_does_and_a_plan_after_that_says_nothing() {
    let lake = lake();
    let (first, ran) = agree(&lake);
    assert_eq!(first.tables("create"), ["sales.brief", "sales.items", "sales.orders"]);
    // Three partitions, two tables, two jars.
    assert_eq!((first.sum(" to copy"), ran.number("counts/deleted")), (9, 0), "{:#?}", first.0);

    // A table comes, one changes, one goes with its files; a partition comes and one goes; files come, change and go.
    lake.table("new", &[]);
    lake.write("sales.db/new/part-0", "new");
    let mut items = lake.unmade_table("items", &[]);
    items.parameters.insert("k".to_owned(), "v".to_owned());
    let orders = lake.unmade_table("orders", &["dt"]);
    lake.apply(&[
        Change::PutTable(Box::new(items)),
        Change::DropTable(TableName::new("sales", "brief")),
        Change::DropPartitions { table: orders.name.clone(), names: vec![PartitionName("dt=1".to_owned())] },
    ]);
    std::fs::remove_dir_all(lake.source("sales.db/brief")).unwrap();
    std::fs::remove_dir_all(lake.source("sales.db/orders/dt=1")).unwrap();
    lake.partition(&orders, &["4"], "four");
    lake.write("sales.db/orders/dt=2/part-0", "others, longer");
    lake.write("sales.db/orders/dt=3/part-1", "more");
    std::fs::remove_file(lake.source("sales.db/items/part-1")).unwrap();
    std::fs::remove_file(lake.root().join("jobs/a.jar")).unwrap();
    lake.write("../jobs/c.jar", "c");
    let (second, _) = agree(&lake);
    let by_step = ["create", "alter", "drop"].map(|step| second.tables(step));
    assert_eq!(by_step, [vec!["sales.new"], vec!["sales.items", "sales.orders"], vec!["sales.brief"]]);
    assert_eq!((second.sum(" to put"), second.sum(" to drop")), (1, 1), "{:#?}", second.0);
    // New, four, others, more and a jar; two of `brief`, and one each of `dt=1`, `items` and the jars.
    assert_eq!((second.sum(" to copy"), second.sum(" to delete")), (5, 5), "{:#?}", second.0);
}
