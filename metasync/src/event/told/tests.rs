//! What is told of a source, against a source that did just that, and against one that did more.

use super::*;
use crate::model::{Column, Parameters, Principal, PrincipalKind, StorageDescriptor, UnknownFields};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a source holds: tables of one database, their partitions, functions.
#[derive(Clone, Default)]
struct Truth {
    tables: BTreeMap<TableName, Table>,
    partitions: BTreeMap<TableName, BTreeMap<String, Partition>>,
    functions: BTreeMap<String, Function>,
}

fn sales() -> DatabaseName {
    DatabaseName::new("sales")
}

fn database() -> Database {
    Database {
        name: sales(),
        description: None,
        location: Some("file:/w/sales.db".to_owned()),
        managed_location: None,
        parameters: Parameters::new(),
        owner: None,
        create_time: None,
        kind: crate::model::DatabaseKind::Native,
        unknown: UnknownFields::default(),
    }
}

fn column(name: &str, type_name: &str) -> Column {
    Column { name: name.to_owned(), type_name: type_name.to_owned(), comment: None, unknown: UnknownFields::default() }
}

fn storage(place: &str, version: u8) -> StorageDescriptor {
    StorageDescriptor {
        columns: Arc::new(vec![column("a", &format!("char({})", u32::from(version) + 1))]),
        location: Some(format!("file:/w/sales.db/{place}")),
        ..StorageDescriptor::default()
    }
}

fn parameters(version: u8) -> Parameters {
    [("v".to_owned(), version.to_string()), ("numRows".to_owned(), "0".to_owned())].into()
}

fn table(name: &str, version: u8) -> Table {
    Table {
        name: sales().table(name),
        table_type: Some("EXTERNAL_TABLE".to_owned()),
        owner: None,
        create_time: 5,
        last_access_time: 6,
        retention: 0,
        storage: storage(name, version),
        partition_keys: vec![column("dt", "string")],
        parameters: parameters(version),
        view_original_text: None,
        view_expanded_text: None,
        rewrite_enabled: false,
        creation_metadata: None,
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}

fn partition(value: &str, version: u8) -> Partition {
    Partition {
        values: vec![value.to_owned()],
        create_time: 9,
        last_access_time: 0,
        storage: storage(value, version),
        parameters: parameters(version),
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}

fn named(partition: Partition) -> NamedPartition {
    NamedPartition { name: PartitionName::of(["dt"], &partition.values).unwrap(), partition }
}

fn function(name: &str, version: u8) -> Function {
    Function {
        database: sales(),
        name: name.to_owned(),
        class_name: Some(format!("of.Version{version}")),
        owner: None,
        create_time: 1,
        kind: crate::model::FunctionKind::Java,
        resources: Vec::new(),
        unknown: UnknownFields::default(),
    }
}

fn event(id: i64, kind: Kind) -> Event {
    Event { id, time: 1, digest: [0; 32], kind }
}

/// A table with its partitions that is gone from `names` of a source or comes to it.
type Choice = (u8, u8, u8, u8);

impl Truth {
    /// Does what the dice say, and says what a listener would of it. Nothing where it cannot be done.
    fn act(&mut self, (action, which, other, version): Choice) -> Option<Kind> {
        let name = |number: u8| format!("t{}", number % 3);
        let value = |number: u8| format!("d{}", number % 4);
        let here = sales().table(&name(which));
        let is_there = self.tables.contains_key(&here);
        let files = Vec::new;
        match action % 9 {
            0 if !is_there => {
                let made = table(&name(which), version);
                self.tables.insert(here, made.clone());
                Some(Kind::CreateTable { table: Box::new(made), files: files() })
            }
            1 if is_there => {
                let after = table(&name(which), version);
                let before = self.tables.insert(here.clone(), after.clone())?;
                // A cascade reaches partitions, which have no message of it.
                let inside = self.partitions.entry(here).or_default().values_mut();
                inside.for_each(|partition| partition.storage.columns = Arc::clone(&after.storage.columns));
                Some(Kind::AlterTable {
                    before: Box::new(before),
                    after: Box::new(after),
                    truncated: None,
                    write_id: None,
                })
            }
            2 if is_there => {
                let to = sales().table(&name(other));
                if self.tables.contains_key(&to) {
                    return None;
                }
                let before = self.tables.remove(&here)?;
                let after = table(&name(other), version);
                self.tables.insert(to.clone(), after.clone());
                let moved = self.partitions.remove(&here).unwrap_or_default();
                let moved = moved.into_iter().map(|(value, mut partition)| {
                    partition.storage.location = Some(format!("file:/w/sales.db/{}/{value}", to.table));
                    (value, partition)
                });
                self.partitions.insert(to.clone(), moved.collect());
                Some(Kind::AlterTable {
                    before: Box::new(before),
                    after: Box::new(after),
                    truncated: None,
                    write_id: None,
                })
            }
            3 if is_there => {
                self.partitions.remove(&here);
                self.tables.remove(&here);
                Some(Kind::DropTable { name: here, table: None })
            }
            4 if is_there => {
                let added = [value(which / 3), value(other)].map(|value| partition(&value, version));
                let there = self.partitions.entry(here.clone()).or_default();
                let mut added = added.to_vec();
                added.dedup();
                added.retain(|partition| !there.contains_key(&partition.values[0]));
                there.extend(added.iter().map(|one| (one.values[0].clone(), one.clone())));
                let table = Box::new(self.tables.get(&here)?.clone());
                Some(Kind::AddPartitions {
                    table,
                    partitions: added.into_iter().map(named).collect(),
                    files: Vec::new(),
                })
            }
            5 | 6 if is_there => {
                let there = self.partitions.entry(here.clone()).or_default();
                let before = there.remove(&value(other))?;
                let to = if action % 9 == 5 { value(other) } else { value(which / 3) };
                if there.contains_key(&to) {
                    there.insert(value(other), before);
                    return None;
                }
                let after = partition(&to, version);
                there.insert(to, after.clone());
                Some(Kind::AlterPartition {
                    table: Box::new(self.tables.get(&here)?.clone()),
                    before: Box::new(named(before)),
                    after: Box::new(named(after)),
                    truncated: None,
                    write_id: None,
                })
            }
            7 if is_there => {
                let gone = self.partitions.get_mut(&here)?.remove(&value(other))?;
                Some(Kind::DropPartitions { name: here, table: None, partitions: vec![named(gone).name] })
            }
            8 => {
                let name = name(which);
                match self.functions.remove(&name) {
                    Some(_) => Some(Kind::DropFunction { database: sales(), function: name }),
                    None => {
                        let made = function(&name, version);
                        self.functions.insert(name, made.clone());
                        Some(Kind::CreateFunction { function: Box::new(made) })
                    }
                }
            }
            _ => None,
        }
    }

    /// All that is not as was told.
    fn against(&self, told: &Told) -> Vec<String> {
        let mut wrong: Vec<String> = Vec::new();
        wrong.extend(told.against_databases(&[database()]).into_iter().map(|(name, why)| format!("{name}: {why}")));
        let names: Vec<String> = self.tables.keys().map(|name| name.table.clone()).collect();
        let of_names = told.against_table_names(&sales(), &names);
        wrong.extend(of_names.into_iter().map(|(name, why)| format!("{name}: {why}")));
        for (name, table) in &self.tables {
            let partitions: Vec<Partition> =
                self.partitions.get(name).into_iter().flat_map(BTreeMap::values).cloned().collect();
            wrong.extend(told.against_table(table).map(|why| format!("{name}: {why}")));
            wrong.extend(told.against_partitions(table, &partitions).map(|why| format!("{name}: {why}")));
        }
        let functions: Vec<Function> = self.functions.values().cloned().collect();
        wrong.extend(told.against_functions(&sales(), &functions).map(|why| format!("{}: {why}", sales())));
        wrong
    }

    /// Changes what an event is about once more, and says nothing of it. Whose reason shall name it.
    fn silently(&mut self, touched: &Kind, version: u8) -> Option<String> {
        let mut change_table = |name: &TableName| {
            let table = self.tables.get_mut(name)?;
            match version % 4 {
                0 => table.storage.columns = Arc::new(vec![column("a", "another")]),
                1 => table.storage.location = Some("file:/another".to_owned()),
                2 => drop(table.parameters.insert("v".to_owned(), "another".to_owned())),
                _ => drop(self.tables.remove(name)),
            }
            Some(name.to_string())
        };
        match touched {
            Kind::CreateTable { table, .. } => change_table(&table.name),
            Kind::AlterTable { after, .. } => change_table(&after.name),
            Kind::DropTable { name, .. } => {
                self.tables.insert(name.clone(), table(&name.table, version));
                Some(name.to_string())
            }
            Kind::AddPartitions { table, partitions, .. } => {
                let first = partitions.first()?;
                let there = self.partitions.get_mut(&table.name)?;
                match version % 2 {
                    0 => drop(there.remove(&first.partition.values[0])),
                    _ => there.get_mut(&first.partition.values[0])?.storage.location = Some("file:/other".to_owned()),
                }
                Some(format!("{}: partition {}", table.name, first.name))
            }
            Kind::DropPartitions { name, partitions, .. } => {
                let value = partitions[0].0.trim_start_matches("dt=").to_owned();
                self.partitions.get_mut(name)?.insert(value.clone(), partition(&value, version));
                Some(format!("{name}: partition {}", partitions[0]))
            }
            Kind::CreateFunction { function } => {
                self.functions.get_mut(&function.name)?.class_name = Some("of.Another".to_owned());
                Some(format!("{}: function {}", sales(), function.name))
            }
            _ => None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn rule_22_a_source_that_did_what_was_told_is_as_was_told(
        choices in prop::collection::vec(any::<Choice>(), 0..60),
        silent in any::<u8>(),
    ) {
        let (mut truth, mut told, mut last) = (Truth::default(), Told::default(), None);
        for (id, choice) in (1..).zip(choices) {
            if let Some(kind) = truth.act(choice) {
                last = Some(kind.clone());
                told.take(event(id, kind));
            }
        }
        prop_assert_eq!(truth.against(&told), Vec::<String>::new());
        // Rule 25: what nobody said of the same object is noticed.
        if let Some(named) = last.and_then(|kind| truth.silently(&kind, silent)) {
            let wrong = truth.against(&told);
            prop_assert!(!wrong.is_empty() && wrong.iter().all(|why| why.starts_with(&named)), "{named} in {wrong:?}");
        }
        for name in truth.tables.keys() {
            told.forget_table(name);
        }
        told.forget_database(&sales());
        prop_assert!(told.is_silent(), "{} words are left", told.words);
    }
}

fn create(id: i64, name: &str) -> Event {
    event(id, Kind::CreateTable { table: Box::new(table(name, 0)), files: Vec::new() })
}

#[test]
fn rule_22_what_a_message_lacks_comes_from_the_source() {
    let mut told = Told::default();
    told.take(create(1, "t"));
    let mut read = table("t", 0);
    read.parameters.extend([("more".to_owned(), "x".to_owned()), ("numRows".to_owned(), "7".to_owned())]);
    read.parameters.insert("transient_lastDdlTime".to_owned(), "9".to_owned());
    read.storage.location = Some("file:///w/sales.db/t/".to_owned());
    (read.owner, read.create_time) = (Some(Principal { name: "ann".to_owned(), kind: PrincipalKind::User }), 77);
    assert_eq!(told.against_table(&read), None);
    read.parameters.insert("v".to_owned(), "1".to_owned());
    let why = told.against_table(&read).unwrap();
    assert_eq!(why, "its `parameters.v` is not what event 1 says, the last one of it");
}

#[test]
fn rule_24_what_came_late_or_has_a_twin_has_no_word() {
    let silenced: [fn(&mut Told); 4] = [
        |told| told.forget(&create(7, "t").touches()),
        |told| told.take(create(1, "t")),
        |told| told.take(event(2, Kind::Unknown { database: Some(sales()), table: None })),
        |told| told.take(event(2, Kind::Unknown { database: None, table: None })),
    ];
    for (at, silence) in silenced.into_iter().enumerate() {
        let mut told = Told::default();
        told.take(create(1, "t"));
        assert!(!told.is_silent() && !told.against_table_names(&sales(), &[]).is_empty());
        silence(&mut told);
        assert!(told.is_silent(), "{at}");
    }
    let row = |database: Option<&str>, table: Option<&str>| EventRow {
        event_id: 3,
        event_time: 0,
        event_type: "ALTER_TABLE".to_owned(),
        catalog: None,
        database: database.map(str::to_owned),
        table: table.map(str::to_owned),
        message: "what nobody can read".to_owned(),
        message_format: None,
    };
    for (database, table, is_silent) in [
        (Some("SALES"), Some("T"), true),
        (Some("sales"), Some("u"), false),
        (Some("sales"), None, true),
        (None, None, true),
    ] {
        let mut told = Told::default();
        told.take(create(1, "t"));
        told.forget_row(&row(database, table));
        assert_eq!(told.is_silent(), is_silent, "{database:?} {table:?}");
    }
}

#[test]
fn words_have_a_bound_and_those_that_are_there_go_on() {
    let mut told = Told::default();
    let most = i64::try_from(MAX_WORDS).unwrap();
    for id in 0..most + 10 {
        told.take(event(id, Kind::DropTable { name: sales().table(&format!("t{id}")), table: None }));
    }
    assert_eq!(told.words, MAX_WORDS);
    told.take(create(most + 20, "t0"));
    assert_eq!(told.against_table(&table("t0", 0)), None);
    assert!(told.against_table(&table("t0", 1)).is_some() && told.words == MAX_WORDS);
}
