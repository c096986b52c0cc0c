//! A database of the policy and its functions, compared.
//!
//! What cannot be carried or read is named, stays as it is on the target, and leads to no drop.

use super::{DatabaseWork, LAST_ID, MARK, Survey};
use crate::carry;
use crate::compare::{Lines, Sides, expected, line};
use crate::metastore::{Change, Damaged, Error, Result};
use crate::model::{Database, Function};
use crate::object::Object;
use crate::rewrites::Rewrites;
use crate::roots::{Folder, Owner, Wave};
use crate::sync::seal;
use crate::volatile::is_replication;
use std::collections::{BTreeMap, BTreeSet};

/// What a database and its functions shall be and are; the digest is of what the target holds now.
pub(super) async fn compare_database(
    sides: &Sides,
    database: Database,
    there: Option<&Database>,
    at: usize,
    survey: &mut Survey,
) -> Result<(DatabaseWork, Option<String>)> {
    let (source, location) = (database.name.clone(), database.location.clone());
    let target = sides.policy.target_database(&source);
    let refused = |why: String| Error::Failed {
        operation: "carry".to_owned(),
        object: format!("database {source}"),
        why,
        class: manifest::Class::Permanent,
    };
    let mut told = Rewrites::default();
    let Object::Database(mut shall) = expected(Object::Database(database), sides, &mut told).map_err(refused)? else {
        return Err(refused("it became something else".to_owned()));
    };
    let (mut changes, mut rewritten) = (Vec::new(), Vec::new());
    let mut lines = Lines::default();
    let mut actual = Lines::default();
    lines.add(&line(Object::Database(shall.clone())));
    if let Some(there) = there {
        actual.add(&line(Object::Database(there.clone())));
        // How far a replica is, is the target's own.
        let kept = there.parameters.iter().filter(|(key, _)| is_replication(key));
        shall.parameters.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
    }
    if there.is_none_or(|there| line(Object::Database(there.clone())) != line(Object::Database(shall.clone()))) {
        changes.push(Change::PutDatabase(shall));
        rewritten.push((format!("database {target}"), told));
    }
    let held: BTreeMap<String, Function> = match there {
        Some(_) => {
            sides.target.functions(&target).await?.found.into_iter().map(|one| (one.name.clone(), one)).collect()
        }
        None => BTreeMap::new(),
    };
    let has_functions = !held.is_empty();
    let mut functions = Vec::new();
    let (mut kept, mut lacking) = (BTreeSet::new(), BTreeSet::new());
    // What the target holds once this is done: in the order of names, as it is read.
    let mut left: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let batch = sides.source.functions(&source).await?;
    // Of what cannot be read nobody knows the name: nothing is dropped for it.
    let all_read = batch.damaged.is_empty();
    survey.damaged.extend(batch.damaged);
    for function in batch.found {
        kept.insert(function.name.clone());
        let object = Object::Function(function.clone());
        let (name, mut told) = (object.to_string(), Rewrites::default());
        let shall = expected(object, sides, &mut told);
        let shall = match shall {
            Ok(Object::Function(shall)) => shall,
            Ok(_) => continue,
            Err(why) => {
                // What the target has of it stays.
                if let Some(held) = held.get(&function.name) {
                    left.insert(function.name.clone(), line(Object::Function(held.clone())));
                }
                survey.damaged.push(Damaged::other(name, why));
                continue;
            }
        };
        let folders = carry::resources(&function).into_iter();
        survey.folders.extend(folders.map(|location| Folder {
            location,
            owner: Owner::Database(at),
            wave: Wave::Data,
        }));
        let wanted = line(Object::Function(shall.clone()));
        lacking.extend((!held.contains_key(&shall.name)).then(|| shall.name.clone()));
        if held.get(&shall.name).is_none_or(|held| line(Object::Function(held.clone())) != wanted) {
            functions.push(Change::PutFunction(shall.clone()));
            rewritten.push((format!("function {target}.{}", shall.name), told));
        }
        left.insert(shall.name, wanted);
    }
    for (name, function) in held {
        let line = line(Object::Function(function));
        actual.add(&line);
        match kept.contains(&name) {
            true => {}
            false if all_read => functions.push(Change::DropFunction { database: target.clone(), name }),
            false => {
                left.insert(name, line);
            }
        }
    }
    left.values().for_each(|line| lines.add(line));
    let parameter = |key: &str| there.and_then(|there| there.parameters.get(key).cloned());
    let actual = there.map(|_| actual.hex());
    Ok((
        DatabaseWork {
            source,
            target,
            location,
            is_new: there.is_none(),
            changes,
            functions,
            rewritten,
            digest: lines.hex(),
            last_id: parameter(LAST_ID),
            mark: parameter(MARK),
            seal: parameter(seal::KEY),
            drifted: false,
            settled: false,
            lacking,
            has_functions,
        },
        actual,
    ))
}
