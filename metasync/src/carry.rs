//! Which tables are carried, which are quarantined with a reason, and which files belong to each.
//!
//! Pure. A table whose files alone do not say what its rows are is never copied as if they did: of transactional tables the
//! metastore says which writes count; of Iceberg's it says which version does; those of Hudi are not carried.

use crate::location::Location;
use crate::model::{Function, Parameters, Partition, PartitionName, Table};
use crate::roots::Wave;

/// Parameters whose value is one file that readers of the table need.
const FILE_PARAMETERS: [&str; 1] = ["avro.schema.url"];
/// Where Delta keeps the log that says which files are the table.
const DELTA_LOG: &str = "_delta_log";

/// Names the version of an Iceberg table.
const METADATA_LOCATION: &str = "metadata_location";

/// What a table is, as far as copying it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nature {
    /// No files: a view, or a table whose rows another system holds.
    NoFiles,
    /// Its files are its rows.
    Plain,
    /// Its log says which files are its rows.
    Delta,
    /// The version that its metastore names says which files are its rows.
    Iceberg,
    /// The writes that its metastore knows as committed say which of its files are its rows.
    Acid,
    /// It cannot be carried; why.
    Quarantined(String),
    /// It is not asked for.
    LeftOut,
}

/// What this table is. `materialized` says whether materialized views are asked for.
pub fn nature(table: &Table, materialized: bool) -> Nature {
    let is = |key: &str, value: &str| table.parameters.get(key).is_some_and(|found| found.eq_ignore_ascii_case(value));
    match table.table_type.as_deref() {
        Some("VIRTUAL_VIEW") if is("table_type", "ICEBERG-VIEW") => {
            return Nature::Quarantined("it is an Iceberg view: its metadata names places of the source".to_owned());
        }
        Some("VIRTUAL_VIEW") => return Nature::NoFiles,
        Some("MATERIALIZED_VIEW") if !materialized => return Nature::LeftOut,
        _ => {}
    }
    let is_acid = is_acid(table);
    if is_acid && let Some(why) = odd_acid(table) {
        return Nature::Quarantined(format!("it is an ACID table: {why}"));
    }
    if is("table_type", "ICEBERG") || table.parameters.contains_key(METADATA_LOCATION) || provided_by(table, "iceberg")
    {
        return match iceberg_metadata(table) {
            _ if is_acid => Nature::Quarantined("it is an Iceberg table with transactions".to_owned()),
            Some(_) => Nature::Iceberg,
            None => Nature::Quarantined(
                "it is an Iceberg table, and its metadata_location leads to no folder inside its location".to_owned(),
            ),
        };
    }
    let hudi = table.storage.input_format.as_deref().is_some_and(|class| class.contains(".hudi."));
    if hudi || provided_by(table, "hudi") {
        return Nature::Quarantined("it is a Hudi table: its timeline is not carried in order".to_owned());
    }
    if table.parameters.contains_key("storage_handler") {
        return Nature::NoFiles;
    }
    if table.storage.location.is_none() {
        return Nature::Quarantined("it has no location".to_owned());
    }
    match provided_by(table, "delta") {
        _ if is_acid => Nature::Acid,
        true => Nature::Delta,
        false => Nature::Plain,
    }
}

/// Where the version of an Iceberg table stands that its metastore names: in a folder inside its own.
pub fn iceberg_metadata(table: &Table) -> Option<Location> {
    let file = Location::parse(table.parameters.get(METADATA_LOCATION)?).ok()?;
    let home = Location::parse(table.storage.location.as_deref()?).ok()?;
    let is_inside = home.relative(&file).is_some_and(|inner| inner.len() > 1);
    is_inside.then_some(file)
}

/// Whether a table knows transactions, of whatever kind.
pub fn is_acid(table: &Table) -> bool {
    let is_true = |(key, value): (&String, &String)| {
        key.eq_ignore_ascii_case("transactional") && value.eq_ignore_ascii_case("true")
    };
    table.parameters.iter().any(is_true)
}

/// What of a transactional table is not understood.
fn odd_acid(table: &Table) -> Option<String> {
    if table.table_type.as_deref() != Some("MANAGED_TABLE") {
        let kind = table.table_type.as_deref().unwrap_or("table without a type");
        return Some(format!("a {kind} with transactions is not carried"));
    }
    let properties = table.parameters.get("transactional_properties").map_or("default", String::as_str);
    let is_known = ["default", "insert_only"].iter().any(|known| properties.eq_ignore_ascii_case(known));
    (!is_known).then(|| format!("transactional_properties = {properties} are not known"))
}

fn provided_by(table: &Table, provider: &str) -> bool {
    table.parameters.get("spark.sql.sources.provider").is_some_and(|found| found.eq_ignore_ascii_case(provider))
}

/// Whether readers ask the metastore for the folders of this table's partitions. Spark lists the table's own folder instead
/// where it does not track the partitions of a table of its own.
pub fn is_found_by_location(table: &Table) -> bool {
    let tracked =
        table.parameters.get("spark.sql.partitionProvider").is_some_and(|by| by.eq_ignore_ascii_case("catalog"));
    let provider = table.parameters.get("spark.sql.sources.provider");
    table.partition_keys.is_empty() || tracked || provider.is_none_or(|by| by.eq_ignore_ascii_case("hive"))
}

/// Whether dropping this table removes its files. `keep` is `keep_external_data` of the policy (rule 31).
pub fn data_goes_with(table: &Table, keep: bool) -> bool {
    let is_true = |key: &str| table.parameters.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    table.table_type.as_deref() == Some("MANAGED_TABLE") || is_true("external.table.purge") || !keep
}

/// The folders and files of a table, but for those of its partitions.
pub fn folders(table: &Table, nature: &Nature) -> Vec<(Location, Wave)> {
    let mut found = Vec::new();
    if matches!(nature, Nature::Plain | Nature::Delta | Nature::Acid | Nature::Iceberg)
        && let Some(location) = table.storage.location.as_deref().and_then(|text| Location::parse(text).ok())
    {
        if *nature == Nature::Delta {
            found.push((location.join(&[DELTA_LOG.to_owned()]), Wave::Log));
        }
        let metadata = iceberg_metadata(table).filter(|_| *nature == Nature::Iceberg);
        found.extend(metadata.and_then(|file| file.parent()).map(|folder| (folder, Wave::Rewritten)));
        found.push((location, Wave::Data));
    }
    found.extend(files(&table.parameters).chain(files(&table.storage.serde.parameters)));
    found
}

fn files(parameters: &Parameters) -> impl Iterator<Item = (Location, Wave)> {
    let named = FILE_PARAMETERS.iter().filter_map(|key| parameters.get(*key));
    named.filter_map(|text| Some((Location::parse(text).ok()?, Wave::Data)))
}

/// The folder of a partition that does not stand where its name leads from its table's.
pub fn displaced(table: &Table, name: &PartitionName, partition: &Partition) -> Option<Location> {
    let location = Location::parse(partition.storage.location.as_deref()?).ok()?;
    let home = table.storage.location.as_deref().and_then(|text| Location::parse(text).ok());
    let leads = |home: &Location| home.relative(&location).is_some_and(|inner| inner.iter().eq(name.0.split('/')));
    (!home.is_some_and(|home| leads(&home))).then_some(location)
}

/// The folder of a partition that is not inside its table's.
pub fn outside(table: &Table, partition: &Partition) -> Option<Location> {
    let location = Location::parse(partition.storage.location.as_deref()?).ok()?;
    let home = table.storage.location.as_deref().and_then(|text| Location::parse(text).ok());
    match home.is_some_and(|home| home.relative(&location).is_some()) {
        true => None,
        false => Some(location),
    }
}

/// The files of a function.
pub fn resources(function: &Function) -> Vec<Location> {
    function.resources.iter().filter_map(|resource| Location::parse(&resource.uri).ok()).collect()
}

/// Names of files and folders that writers use while they write: never data (`_SUCCESS`, `_delta_log`, `_metadata` are).
/// As patterns of distcp's filters.
pub const STAGING: [&str; 10] = [
    "_temporary",
    "**/_temporary/**",
    ".hive-staging*",
    "**/.hive-staging*/**",
    ".spark-staging*",
    "**/.spark-staging*/**",
    "_tmp.*",
    "**/_tmp.*/**",
    "-ext-*",
    "**/-ext-*/**",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{StorageDescriptor, TableName, UnknownFields};
    use distcp::filter::Filter;
    use manifest::ObjectKey;

    fn table(kind: &str, location: Option<&str>, parameters: &[(&str, &str)]) -> Table {
        Table {
            name: TableName::new("d", "t"),
            table_type: Some(kind.to_owned()),
            owner: None,
            create_time: 0,
            last_access_time: 0,
            retention: 0,
            storage: StorageDescriptor { location: location.map(str::to_owned), ..StorageDescriptor::default() },
            partition_keys: Vec::new(),
            parameters: parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            view_original_text: None,
            view_expanded_text: None,
            rewrite_enabled: false,
            creation_metadata: None,
            write_id: 0,
            unknown: UnknownFields::default(),
        }
    }

    #[test]
    fn what_files_alone_do_not_say_is_quarantined() {
        let nature = |kind, location, parameters: &[_]| nature(&table(kind, location, parameters), false);
        assert_eq!(nature("EXTERNAL_TABLE", Some("/w/t"), &[]), Nature::Plain);
        assert_eq!(nature("VIRTUAL_VIEW", None, &[]), Nature::NoFiles);
        assert_eq!(nature("MATERIALIZED_VIEW", Some("/w/m"), &[]), Nature::LeftOut);
        assert_eq!(nature("EXTERNAL_TABLE", None, &[("storage_handler", "x")]), Nature::NoFiles);
        assert_eq!(nature("EXTERNAL_TABLE", Some("/w"), &[("spark.sql.sources.provider", "DELTA")]), Nature::Delta);
        assert_eq!(nature("MANAGED_TABLE", Some("/w/t"), &[("transactional", "TRUE")]), Nature::Acid);
        let insert_only = [("transactional", "true"), ("transactional_properties", "INSERT_ONLY")];
        assert_eq!(nature("MANAGED_TABLE", Some("/w/t"), &insert_only), Nature::Acid);
        for (kind, parameters) in [
            ("EXTERNAL_TABLE", &[("transactional", "true")][..]),
            ("MANAGED_TABLE", &[("transactional", "true"), ("transactional_properties", "new")]),
        ] {
            assert!(matches!(nature(kind, Some("/w/t"), parameters), Nature::Quarantined(_)), "{kind} {parameters:?}");
        }
        for (parameters, word) in
            [(&[("metadata_location", "x")], "Iceberg"), (&[("spark.sql.sources.provider", "hudi")], "Hudi")]
        {
            let Nature::Quarantined(why) = nature("MANAGED_TABLE", Some("/w/t"), parameters) else { panic!("{word}") };
            assert!(why.contains(word), "{why}");
        }
        assert!(matches!(nature("MANAGED_TABLE", None, &[]), Nature::Quarantined(_)));
        for (file, is_carried) in
            [("file:/w/t/metadata/1.json", true), ("/w/t/1.json", false), ("/w/t2/metadata/1.json", false)]
        {
            let parameters = [("table_type", "iceberg"), ("metadata_location", file)];
            let found = nature("EXTERNAL_TABLE", Some("/w/t"), &parameters);
            assert_eq!(found == Nature::Iceberg, is_carried, "{file}: {found:?}");
        }
    }

    #[test]
    fn rule_31_files_that_a_drop_purges_are_not_kept() {
        let goes = |kind, parameters: &[_], keep| data_goes_with(&table(kind, None, parameters), keep);
        assert!(!goes("EXTERNAL_TABLE", &[], true) && goes("EXTERNAL_TABLE", &[], false));
        assert!(goes("EXTERNAL_TABLE", &[("external.table.purge", "TRUE")], true) && goes("MANAGED_TABLE", &[], true));
    }

    #[test]
    fn case_48_staging_names_are_not_data_and_marks_of_engines_are() {
        let filter = Filter::excluding(&STAGING);
        filter.validate().unwrap();
        for key in
            ["t/_temporary/0/x", "_temporary", "t/p=1/.hive-staging_hive_1/-ext-10000/f", "t/_tmp.-ext-1/f", "t/_tmp.x"]
        {
            assert!(!filter.takes_key(&ObjectKey::from(key)), "{key}");
        }
        for key in ["t/_SUCCESS", "t/_delta_log/0.json", "t/_metadata", "t/p=1/part-0", "t/x_temporary/f"] {
            assert!(filter.takes_key(&ObjectKey::from(key)), "{key}");
        }
    }
}
