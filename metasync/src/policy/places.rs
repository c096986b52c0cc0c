//! That no two entries of a policy meet in one place (rule 1): nothing that is read is written, and no two trees write
//! one place.
//!
//! A plain tree never writes into a tree of tables, not even where both agree on what stands there: a path with `delete`
//! takes what only the target has (fresh folders of `publish = "switch"`, files that a dropped external table left), and
//! brings metadata of Iceberg tables as the source has it. Pure.

use super::PathRule;
use crate::location::{Location, LocationMap};
use distcp::place::{self, Place};
use std::collections::BTreeMap;
use std::path::Path;

/// Two entries that meet.
#[derive(Debug, PartialEq, Eq)]
pub struct Clash {
    /// The key in the policy, as `paths[0].to`.
    pub key: String,
    /// What it overlaps, and what to do.
    pub why: String,
}

/// A place as it was written, and where that is, if that is known.
type Read = (String, Option<Place>);

/// Finds a path that meets a location or another path. `read` says where a place is; what it does not know meets
/// nothing.
pub fn clash(locations: &LocationMap, paths: &[PathRule], read: impl Fn(&str) -> Option<Place>) -> Option<Clash> {
    if paths.is_empty() {
        return None;
    }
    // The second location of an account is written by nobody but the service.
    let write = |text: &str| read(text).filter(|place| !place.is_secondary());
    let pair = |(from, to): &(Location, Location)| {
        ((from.to_string(), read(&from.place())), (to.to_string(), write(&to.place())))
    };
    let locations: Vec<(Read, Read)> = locations.pairs().iter().map(pair).collect();
    let path = |path: &PathRule| ((path.from.clone(), read(&path.from)), (path.to.clone(), write(&path.to)));
    let paths: Vec<(Read, Read)> = paths.iter().map(path).collect();
    paths.iter().enumerate().find_map(|(at, (from, to))| {
        let with_locations = locations.iter().find_map(|(read, written)| {
            let what = "of [[locations]]";
            meet(at, "to", to, read, &format!("a `from` {what}: the source would be written"))
                .or_else(|| meet(at, "to", to, written, &format!("a `to` {what}: each would write over the other")))
                .or_else(|| {
                    meet(at, "from", from, written, &format!("a `to` {what}: the path's source would be written"))
                })
        });
        with_locations.or_else(|| {
            paths.iter().enumerate().find_map(|(other, (read, written))| {
                let what = |side: &str| format!("paths[{other}].{side}");
                meet(at, "to", to, read, &format!("{}: a source would be written", what("from"))).or_else(|| {
                    let twice = format!("{}: each would write over the other", what("to"));
                    if other < at { meet(at, "to", to, written, &twice) } else { None }
                })
            })
        })
    })
}

/// That a side of a path and another place are one, or one is inside the other.
fn meet(at: usize, side: &str, (text, place): &Read, (other_text, other): &Read, what: &str) -> Option<Clash> {
    let (place, other) = (place.as_ref()?, other.as_ref()?);
    if !place.overlaps(other) {
        return None;
    }
    let why = format!("is {text}, which overlaps {other_text}, {what}; give the path a place of its own");
    Some(Clash { key: format!("paths[{at}].{side}"), why })
}

/// Where a place is, as far as its text says: nothing is resolved, and no store is known by its name.
pub fn plain(text: &str) -> Option<Place> {
    match Location::parse(text) {
        Ok(location) if location.is_local() => {
            let path = Path::new(&location.place()).to_owned();
            let location = place::Location::Local { resolved: path.clone(), path };
            Some(Place { location, store: None, service: None })
        }
        Ok(_) => Place::parse(text.as_ref(), Path::new("/"), &BTreeMap::new()).ok(),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(locations: &[(&str, &str)], paths: &[(&str, &str)]) -> Option<Clash> {
        let location = |text: &str| Location::parse(text).unwrap();
        let map = LocationMap::new(locations.iter().map(|(from, to)| (location(from), location(to))).collect());
        let rule = |(from, to): &(&str, &str)| PathRule { from: (*from).into(), to: (*to).into(), delete: true };
        clash(&map.unwrap(), &paths.iter().map(rule).collect::<Vec<_>>(), plain)
    }

    #[test]
    fn rule_01_a_path_meets_no_location_and_no_other_path() {
        let lake = ("s3://eu/warehouse", "s3://us/warehouse");
        for (locations, paths, key, word) in [
            (&[lake][..], &[("s3://eu/jobs", "s3a://eu/warehouse/jobs")][..], "paths[0].to", "s3://eu/warehouse"),
            (&[lake], &[("s3://eu/jobs", "s3://eu")], "paths[0].to", "the source would be written"),
            (&[lake], &[("s3://eu/jobs", "s3://us/warehouse")], "paths[0].to", "write over the other"),
            (&[lake], &[("s3://eu/jobs", "s3://us/warehouse/jobs/")], "paths[0].to", "s3://us/warehouse, a `to`"),
            (&[lake], &[("s3://eu/jobs", "s3n://us")], "paths[0].to", "write over the other"),
            (&[lake], &[("s3://us/warehouse/x", "s3://us/y")], "paths[0].from", "the path's source"),
            (&[("file:/a", "file:///t")], &[("/jobs", "/t/jobs")], "paths[0].to", "file:///t"),
            (&[("/a", "/t")], &[("/jobs", "file:///a//jobs")], "paths[0].to", "/a, a `from`"),
            (&[], &[("/a", "/t"), ("/b", "/t/b")], "paths[1].to", "paths[0].to"),
            (&[], &[("/a", "/t/a"), ("/b", "/t")], "paths[1].to", "paths[0].to"),
            (&[], &[("/a", "/b/x"), ("/b", "/t")], "paths[0].to", "paths[1].from"),
            (&[], &[("/a", "/t"), ("/b", "/a")], "paths[1].to", "paths[0].from"),
            (&[], &[("/a", "/a/x")], "paths[0].to", "paths[0].from"),
            (
                &[("abfss://c@x.dfs.core.windows.net/w", "wasbs://d@x.blob.core.windows.net/w")],
                &[("az://c/jobs", "az://d/w/jobs")],
                "paths[0].to",
                "wasbs://d@x",
            ),
        ] {
            let clash = found(locations, paths).unwrap_or_else(|| panic!("{locations:?} {paths:?}"));
            assert!(clash.key == key && clash.why.contains(word), "{locations:?} {paths:?}: {clash:?}");
        }
        for (locations, paths) in [
            (&[lake][..], &[("s3://eu/jobs", "s3://us/jobs"), ("s3://eu/conf", "s3://us/conf")][..]),
            (&[lake], &[("s3://eu/warehouse/jars", "s3://us/jars"), ("s3://eu/warehouse", "s3://us/all")]),
            (&[lake], &[("s3://eu/jobs", "s3://us/warehouse-2")]),
            (&[("/a", "/t")], &[("/jobs", "/jobs_copy")]),
            (&[("/a", "/t")], &[("hdfs://h:1/a", "hdfs://h:1/t")]),
            (&[], &[("eu:jobs", "eu:jobs")]),
            (&[("az://c/w", "abfss://c@x-secondary.dfs.core.windows.net/w")], &[("az://c/w/jobs", "/jobs")]),
        ] {
            assert_eq!(found(locations, paths), None, "{locations:?} {paths:?}");
        }
    }
}
