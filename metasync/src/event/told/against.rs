//! What is read of a source, held against what the messages say of it. Pure.
//!
//! What both say of an object is compared; what only one of them says is no contradiction, for a message may lack it: Hive is
//! told to leave parameters out, and each version's messages have fewer fields than its metastore.

use super::{Told, Word};
use crate::location::same_place;
use crate::model::{
    Column, Database, DatabaseName, Function, Parameters, Partition, PartitionName, Principal, StorageDescriptor,
    Table, TableName,
};
use crate::volatile::is_volatile;
use std::collections::{HashMap, HashSet};

/// What a metastore keeps of an object's files and rows, and changes without a message.
const KEPT_BY_SERVERS: [&str; 7] = [
    "COLUMN_STATS_ACCURATE",
    "numFiles",
    "numFilesErasureCoded",
    "numPartitions",
    "numRows",
    "rawDataSize",
    "totalSize",
];

/// What is said and what is read, and under which name it is told: nothing where one of them says nothing.
struct Differing(Option<String>);

impl Differing {
    fn text(self, what: &str, said: Option<&str>, read: Option<&str>) -> Self {
        let both = said.zip(read).filter(|(said, read)| !said.is_empty() && !read.is_empty());
        self.that(what, both.is_some_and(|(said, read)| said != read))
    }

    fn that(self, what: &str, differs: bool) -> Self {
        Self(self.0.or_else(|| differs.then(|| what.to_owned())))
    }

    fn owner(self, said: Option<&Principal>, read: Option<&Principal>) -> Self {
        self.text("owner", said.map(|said| said.name.as_str()), read.map(|read| read.name.as_str()))
    }

    fn place(self, said: Option<&str>, read: Option<&str>) -> Self {
        let both = said.zip(read);
        self.that("location", both.is_some_and(|(said, read)| !same_place(Some(said), Some(read))))
    }

    /// A parameter that only one of them has is lacking there.
    fn parameters(self, what: &str, said: &Parameters, read: &Parameters) -> Self {
        let is_held = |key: &str| !is_volatile(key) && !KEPT_BY_SERVERS.contains(&key);
        let other = said.iter().find(|(key, value)| is_held(key) && read.get(*key).is_some_and(|read| read != *value));
        Self(self.0.or_else(|| other.map(|(key, _)| format!("{what}.{key}"))))
    }

    fn columns(self, what: &str, said: &[Column], read: &[Column]) -> Self {
        let shape = |columns: &[Column]| -> Vec<(String, String)> {
            columns.iter().map(|column| (column.name.clone(), column.type_name.clone())).collect()
        };
        self.that(what, !said.is_empty() && shape(said) != shape(read))
    }

    fn storage(self, said: &StorageDescriptor, read: &StorageDescriptor) -> Self {
        self.columns("columns", &said.columns, &read.columns)
            .place(said.location.as_deref(), read.location.as_deref())
            .text("input_format", said.input_format.as_deref(), read.input_format.as_deref())
            .text("output_format", said.output_format.as_deref(), read.output_format.as_deref())
            .text("serde.library", said.serde.library.as_deref(), read.serde.library.as_deref())
            .parameters("serde.parameters", &said.serde.parameters, &read.serde.parameters)
    }
}

fn database(said: &Database, read: &Database) -> Option<String> {
    Differing(None)
        .place(said.location.as_deref(), read.location.as_deref())
        .text("description", said.description.as_deref(), read.description.as_deref())
        .owner(said.owner.as_ref(), read.owner.as_ref())
        .parameters("parameters", &said.parameters, &read.parameters)
        .0
}

fn table(said: &Table, read: &Table) -> Option<String> {
    Differing(None)
        .text("table_type", said.table_type.as_deref(), read.table_type.as_deref())
        .columns("partition_keys", &said.partition_keys, &read.partition_keys)
        .storage(&said.storage, &read.storage)
        .text("view_original_text", said.view_original_text.as_deref(), read.view_original_text.as_deref())
        .text("view_expanded_text", said.view_expanded_text.as_deref(), read.view_expanded_text.as_deref())
        .owner(said.owner.as_ref(), read.owner.as_ref())
        .parameters("parameters", &said.parameters, &read.parameters)
        .0
}

fn partition(said: &Partition, read: &Partition) -> Option<String> {
    Differing(None).storage(&said.storage, &read.storage).parameters("parameters", &said.parameters, &read.parameters).0
}

fn function(said: &Function, read: &Function) -> Option<String> {
    let uris = |function: &Function| -> Vec<String> {
        function.resources.iter().map(|resource| resource.uri.clone()).collect()
    };
    Differing(None)
        .text("class_name", said.class_name.as_deref(), read.class_name.as_deref())
        .that("resources", uris(said) != uris(read))
        .0
}

impl<T> Word<T> {
    /// An object that is there: why that is not what was said.
    fn against(&self, read: &T, differing: fn(&T, &T) -> Option<String>) -> Option<String> {
        match &self.says {
            Some(said) => {
                let what = differing(said, read)?;
                Some(format!("its `{what}` is not what event {} says, the last one of it", self.event))
            }
            None => self.against_presence(true),
        }
    }

    /// Whether it is there: why that is not what was said.
    fn against_presence(&self, is_there: bool) -> Option<String> {
        match (&self.says, is_there) {
            (Some(_), false) => Some(format!("it is not there, and event {} is the last one of it", self.event)),
            (None, true) => Some(format!("it is there, and event {} says that it is gone", self.event)),
            _ => None,
        }
    }
}

impl Told {
    /// Whether nothing is said of anything.
    pub fn is_silent(&self) -> bool {
        self.words == 0
    }

    /// Databases of the source, all of them: which are not as was said, with why.
    pub fn against_databases(&self, read: &[Database]) -> Vec<(DatabaseName, String)> {
        let there: HashMap<&DatabaseName, &Database> = read.iter().map(|one| (&one.name, one)).collect();
        let wrong = self.databases.iter().filter_map(|(name, word)| {
            let why = match there.get(name) {
                Some(read) => word.against(read, database),
                None => word.against_presence(false),
            };
            Some((name.clone(), why?))
        });
        wrong.collect()
    }

    /// The names of all tables of a database: which are there, or are not, against what was said, with why.
    pub fn against_table_names(&self, database: &DatabaseName, names: &[String]) -> Vec<(TableName, String)> {
        let there: HashSet<&str> = names.iter().map(String::as_str).collect();
        let inside = self.tables.iter().filter(|(name, _)| name.database() == *database);
        let wrong = inside.filter_map(|(name, word)| {
            Some((name.clone(), word.against_presence(there.contains(name.table.as_str()))?))
        });
        wrong.collect()
    }

    /// A table that is there: why it is not as was said.
    pub fn against_table(&self, read: &Table) -> Option<String> {
        self.tables.get(&read.name)?.against(read, table)
    }

    /// The names of all partitions of a table: why they are not as was said.
    pub fn against_partition_names(&self, table: &TableName, names: &[PartitionName]) -> Option<String> {
        let words = self.partitions.get(table).filter(|words| !words.is_empty())?;
        let there: HashSet<&PartitionName> = names.iter().collect();
        words.iter().find_map(|(name, word)| {
            word.against_presence(there.contains(name)).map(|why| format!("partition {name}: {why}"))
        })
    }

    /// A partition that is there: why it is not as was said.
    pub fn against_partition(&self, of: &Table, read: &Partition) -> Option<String> {
        let words = self.partitions.get(&of.name).filter(|words| !words.is_empty())?;
        let name = name_of(of, read)?;
        Some(format!("partition {name}: {}", words.get(&name)?.against(read, partition)?))
    }

    /// All partitions of a table: why they are not as was said.
    pub fn against_partitions(&self, of: &Table, read: &[Partition]) -> Option<String> {
        self.partitions.get(&of.name).filter(|words| !words.is_empty())?;
        let names: Vec<PartitionName> = read.iter().filter_map(|one| name_of(of, one)).collect();
        let differing = || read.iter().find_map(|one| self.against_partition(of, one));
        self.against_partition_names(&of.name, &names).or_else(differing)
    }

    /// Functions of a database, all of them: why they are not as was said.
    pub fn against_functions(&self, database: &DatabaseName, read: &[Function]) -> Option<String> {
        let there: HashMap<&str, &Function> = read.iter().map(|one| (one.name.as_str(), one)).collect();
        self.functions.get(database)?.iter().find_map(|(name, word)| {
            let why = match there.get(name.as_str()) {
                Some(read) => word.against(read, function),
                None => word.against_presence(false),
            };
            Some(format!("function {name}: {}", why?))
        })
    }
}

fn name_of(table: &Table, partition: &Partition) -> Option<PartitionName> {
    PartitionName::of(table.partition_keys.iter().map(|key| key.name.as_str()), &partition.values).ok()
}
