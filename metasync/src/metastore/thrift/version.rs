//! Which Hive it is: by what it says of itself, and by which calls it knows, because what it says is not always so.

use super::client::{Answer, Client, Repeat};
use crate::metastore::{Error, Result, Version};
use crate::model::HIVE_CATALOG;
use hms::api;
use hms::calls::{GetCatalogs, GetCheckConstraints, GetDatabaseReq, GetTablesByType, GetVersion};
use hms::message::Call;

/// Every metastore has it.
const DATABASE: &str = "default";
/// Nobody has it.
const NO_TABLE: &str = "understudy_asks_for_the_version";

/// What was seen of a server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Its own word, such as `4.0.1`; `3.0` for every Hive 2.
    says: String,
    /// New in 2.3.
    tables_by_type: bool,
    /// New in 3.0.
    catalogs: bool,
    /// New in 3.1.
    checks: bool,
    /// New in 4.0.
    database_requests: bool,
}

/// Asks the server.
pub(super) async fn detect(client: &Client) -> Result<Version> {
    let says = match client.call(&GetVersion {}, Repeat::Probe).await? {
        Answer::Result(says) => says,
        Answer::Thrown(_) | Answer::NoSuchCall => String::new(),
    };
    let (database, table) = (Some(DATABASE.to_owned()), Some(NO_TABLE.to_owned()));
    let request = api::CheckConstraintsRequest {
        cat_name: Some(HIVE_CATALOG.to_owned()),
        db_name: database.clone(),
        tbl_name: table.clone(),
        ..Default::default()
    };
    let checks = GetCheckConstraints { request: Some(request) };
    let table_type = Some("EXTERNAL_TABLE".to_owned());
    let tables = GetTablesByType { db_name: database.clone(), pattern: table, table_type };
    let request = api::GetDatabaseRequest { name: database, ..Default::default() };
    let requests = GetDatabaseReq { request: Some(request) };
    let seen = Seen {
        says,
        tables_by_type: knows(client, &tables).await?,
        catalogs: knows(client, &GetCatalogs {}).await?,
        checks: knows(client, &checks).await?,
        database_requests: knows(client, &requests).await?,
    };
    decide(&seen).ok_or_else(|| Error::UnknownVersion { place: client.place(), found: named(&seen) })
}

/// Whether the server knows a call. It asks about a table that is not there; without arguments some servers hang up.
async fn knows<C: Call + Sync>(client: &Client, call: &C) -> Result<bool> {
    match client.call(call, Repeat::Probe).await {
        Ok(Answer::NoSuchCall) => Ok(false),
        Ok(_) | Err(Error::Failed { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn named(seen: &Seen) -> String {
    match (seen.says.is_empty(), seen.tables_by_type) {
        (true, _) => "no name".to_owned(),
        (false, true) => seen.says.clone(),
        (false, false) => format!("{} (as it says; older than 2.3 by the calls that it knows)", seen.says),
    }
}

/// Pure: what was seen, put together.
fn decide(seen: &Seen) -> Option<Version> {
    let mut numbers = seen.says.split(['.', '-']).map_while(|part| part.parse::<u16>().ok());
    let said = (numbers.next(), numbers.next());
    match seen {
        Seen { tables_by_type: false, .. } => None,
        Seen { catalogs: false, .. } => Some(Version::V2_3),
        Seen { database_requests: true, .. } => match said {
            (Some(4), Some(minor)) => Some(Version { major: 4, minor }),
            (Some(5..), _) => None,
            // 3.2 and the builds of vendors that took in 4.0's calls.
            _ => Some(Version::V4_0),
        },
        Seen { checks: true, .. } => Some(Version::V3_1),
        _ => Some(Version { major: 3, minor: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_by_what_a_server_says_and_knows() {
        let seen = |says: &str, calls: usize| Seen {
            says: says.to_owned(),
            tables_by_type: calls > 0,
            catalogs: calls > 1,
            checks: calls > 2,
            database_requests: calls > 3,
        };
        let version = |major, minor| Some(Version { major, minor });
        let cases = [
            ("3.0", 0, None),
            ("3.0", 1, version(2, 3)),
            ("3.0", 2, version(3, 0)),
            ("3.0", 3, version(3, 1)),
            ("3.1.3", 3, version(3, 1)),
            ("4.0.1", 4, version(4, 0)),
            ("4.2.0-SNAPSHOT", 4, version(4, 2)),
            ("", 4, version(4, 0)),
            ("5.0.0", 4, None),
        ];
        for (says, calls, expected) in cases {
            assert_eq!(decide(&seen(says, calls)), expected, "{says} {calls}");
        }
    }
}
