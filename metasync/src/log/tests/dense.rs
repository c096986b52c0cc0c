//! Hive 3.1 and later.

use super::super::*;
use super::{all_of, event, events, ids};
use proptest::prelude::*;

fn at(id: i64) -> Position {
    Position::from(&event(id, id * 10, ""))
}

fn check_from(position: Option<&Position>, current: i64, rows: Vec<EventRow>) -> Result<Fresh, LogError> {
    check(position, Ids::Dense, all_of(current), rows)
}

#[test]
fn what_follows_the_checkpoint_is_new() {
    let fresh = check_from(Some(&at(5)), 8, events(5..=8)).unwrap();
    assert_eq!((ids(&fresh.new), fresh.late), (vec![6, 7, 8], vec![]));
    assert_eq!(fresh.position, Some(at(8)));
    // Events that came after the current id was asked for are as good.
    assert_eq!(ids(&check_from(Some(&at(5)), 6, events(5..=8)).unwrap().new), [6, 7, 8]);
    // However they come.
    assert_eq!(ids(&check_from(Some(&at(5)), 8, events([8, 5, 7, 6])).unwrap().new), [6, 7, 8]);
    assert_eq!(read_from(Some(&at(5)), Ids::Dense), 4);
}

#[test]
fn a_log_without_news_is_idle() {
    for (position, current, rows) in [
        (None, 0, vec![]),
        (Some(Position::unseen(0)), 0, vec![]),
        (Some(at(5)), 5, events([5])),
        // Cleaned by age; nothing newer is missing.
        (Some(at(5)), 5, vec![]),
        (Some(Position::unseen(5)), 5, vec![]),
    ] {
        let fresh = check_from(position.as_ref(), current, rows).unwrap();
        assert_eq!((fresh.new, fresh.late), (vec![], vec![]), "{position:?}");
        assert_eq!(fresh.position, position.filter(|position| position.id > 0));
    }
    assert_eq!(read_from(None, Ids::Dense), 0);
    assert_eq!(read_from(Some(&Position::unseen(0)), Ids::Dense), 0);
}

#[test]
fn before_the_first_event_all_are_new() {
    for position in [None, Some(Position::unseen(0))] {
        assert_eq!(ids(&check_from(position.as_ref(), 3, events(1..=3)).unwrap().new), [1, 2, 3]);
    }
}

#[test]
fn rule_23_after_an_idle_time_longer_than_the_log_is_kept_it_goes_on() {
    let fresh = check_from(Some(&at(5)), 7, events([6, 7])).unwrap();
    assert_eq!(ids(&fresh.new), [6, 7]);
}

#[test]
fn rule_23_a_checkpoint_that_is_gone_before_its_time_is_refused() {
    let gone = LogError::GoneEarly { id: 5, other: 6 };
    assert_eq!(check_from(Some(&at(5)), 7, vec![event(6, 50, ""), event(7, 70, "")]), Err(gone.clone()));
    assert_eq!(
        gone.to_string(),
        "event 5, the last that was applied, is gone from the source's log before its time, while event 6, no younger, \
         is there: the source was restored from a backup, or rows of its log were deleted; start over with `metasync run \
         --bootstrap --yes`, or copy single tables with `metasync resync`"
    );
}

#[test]
fn rule_23_another_event_in_the_place_of_the_checkpoint_is_refused() {
    for rows in [vec![event(5, 50, "other")], vec![event(5, 50, "other"), event(6, 60, "")]] {
        let current = rows.last().unwrap().event_id;
        let error = check_from(Some(&at(5)), current, rows).unwrap_err();
        assert_eq!(error, LogError::Differs { id: 5 });
        assert!(error.to_string().starts_with("event 5 of the source's log is not the event that was applied"));
    }
}

#[test]
fn an_id_that_was_taken_over_without_its_event_learns_it() {
    let fresh = check_from(Some(&Position::unseen(5)), 5, events([5])).unwrap();
    assert_eq!(fresh.position, Some(at(5)));
    assert_eq!(ids(&check_from(Some(&Position::unseen(5)), 6, events([6])).unwrap().new), [6]);
}

#[test]
fn case_76_ids_that_went_back_are_refused() {
    for rows in [events(1..=3), vec![], events([5])] {
        let error = check_from(Some(&at(5)), 3, rows).unwrap_err();
        assert_eq!(error, LogError::WentBack { id: 5, current: 3 });
        let text = error.to_string();
        assert!(text.contains("current event id is 3") && text.contains("event 5"), "{text}");
        assert!(text.contains("--bootstrap --yes") && text.contains("resync"), "{text}");
    }
}

#[test]
fn case_75_a_log_cleaned_past_the_checkpoint_is_refused() {
    let error = check_from(Some(&at(5)), 12, events(9..=12)).unwrap_err();
    assert_eq!(error, LogError::Cleaned { first: 6, last: 8 });
    let text = error.to_string();
    assert!(text.starts_with("events 6 to 8 are missing"), "{text}");
    assert!(text.contains("timetolive") && text.contains("--bootstrap --yes") && text.contains("resync"), "{text}");
    let error = check_from(Some(&at(5)), 12, vec![]).unwrap_err();
    assert_eq!(error, LogError::Empty { first: 6, last: 12 });
    let text = error.to_string();
    assert!(text.starts_with("events 6 to 12 are missing: the source's log has nothing after event 5"), "{text}");
    assert!(text.contains("metastore.transactional.event.listeners") && text.contains("timetolive"), "{text}");
    assert_eq!(check_from(Some(&at(5)), 12, events([5])), Err(LogError::Empty { first: 6, last: 12 }));
    assert_eq!(check_from(None, 4, events([3, 4])), Err(LogError::Cleaned { first: 1, last: 2 }));
    assert_eq!(check_from(None, 4, vec![]), Err(LogError::Empty { first: 1, last: 4 }));
}

#[test]
fn case_41_a_hole_in_the_log_is_refused_and_named() {
    let error = check_from(Some(&at(5)), 12, events([5, 6, 9, 10, 12])).unwrap_err();
    assert_eq!(error, LogError::Missing { first: 7, last: 8 });
    assert!(error.to_string().starts_with("events 7 to 8 are missing"), "{error}");
    assert_eq!(check_from(Some(&at(5)), 9, events([5, 9])), Err(LogError::Missing { first: 6, last: 8 }));
    assert_eq!(check_from(Some(&at(5)), 9, events(5..=7)), Err(LogError::Missing { first: 8, last: 9 }));
    // Where a limit ended the answer, the rest is still to come.
    let asked = Asked { current: 9, complete: false };
    assert_eq!(ids(&check(Some(&at(5)), Ids::Dense, asked, events(5..=7)).unwrap().new), [6, 7]);
}

#[test]
fn an_id_that_stands_twice_is_damage() {
    let rows = vec![event(5, 50, ""), event(6, 60, "a"), event(6, 60, "b")];
    let error = check_from(Some(&at(5)), 6, rows).unwrap_err();
    assert_eq!(error, LogError::Repeated { id: 6 });
    assert!(error.to_string().starts_with("event id 6 stands twice"), "{error}");
    let rows = vec![event(5, 50, ""), event(5, 50, "b")];
    assert_eq!(check_from(Some(&at(5)), 5, rows), Err(LogError::Repeated { id: 5 }));
}

#[test]
fn ids_at_the_ends_of_their_range_do_not_overflow() {
    assert_eq!(check_from(None, i64::MAX, events([0])), Err(LogError::NoId { id: 0 }));
    assert_eq!(check_from(None, 1, vec![event(i64::MIN, 0, "")]), Err(LogError::NoId { id: i64::MIN }));
    let last = event(i64::MAX, 1, "");
    let missing = LogError::Cleaned { first: 1, last: i64::MAX - 1 };
    assert_eq!(check_from(None, i64::MAX, vec![last.clone()]), Err(missing));
    let position = Position::from(&last);
    assert_eq!(check_from(Some(&position), i64::MAX, vec![last]).unwrap().new, []);
    let before = Position { id: i64::MIN, time: 0, digest: None };
    assert_eq!(read_from(Some(&before), Ids::Dense), 0);
    assert_eq!(check_from(Some(&before), i64::MIN, vec![]).unwrap().position, None);
    for error in [LogError::Empty { first: 1, last: i64::MAX }, LogError::NoId { id: i64::MIN }] {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn rows_that_end_before_the_checkpoint_are_no_answer() {
    let asked = Asked { current: 9, complete: false };
    assert_eq!(check(Some(&at(5)), Ids::Dense, asked, events([3, 4])), Err(LogError::CutShort { id: 5 }));
}

#[test]
fn a_position_comes_back_from_its_text() {
    for position in [at(5), Position::unseen(7)] {
        let text = serde_json::to_string(&position).unwrap();
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), position);
    }
    assert_eq!(serde_json::to_string(&Position::unseen(7)).unwrap(), r#"{"id":7,"time":0}"#);
    assert!(serde_json::from_str::<Position>(r#"{"id":7,"time":0,"digest":"12"}"#).is_err());
}

/// What happened to a source since its first events were applied.
#[derive(Debug)]
struct History {
    /// Applied, up to which id.
    applied: i64,
    /// Its current id now.
    current: i64,
    /// Restored: events with larger ids are others than those that were applied.
    restored_after: Option<i64>,
    /// Cleaned up to which id.
    cleaned: i64,
    /// Deleted by hand.
    deleted: Vec<i64>,
}

fn history() -> impl Strategy<Value = History> {
    let restored = prop::option::weighted(0.3, 0i64..12);
    let deleted = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(1i64..12, 1..3)];
    (0i64..12, 0i64..12, restored, 0i64..12, deleted).prop_map(
        |(applied, current, restored_after, cleaned, deleted)| History {
            applied,
            current,
            restored_after,
            cleaned,
            deleted,
        },
    )
}

impl History {
    fn event(&self, id: i64) -> EventRow {
        let restored = self.restored_after.is_some_and(|last| id > last);
        event(id, id * 10, if restored { "restored" } else { "" })
    }

    fn there(&self, id: i64) -> bool {
        (1..=self.current).contains(&id) && id > self.cleaned && !self.deleted.contains(&id)
    }

    /// What has to come out, said without looking at how it is found: errors by their first words.
    fn expected(&self) -> Result<Vec<i64>, String> {
        let applied = self.applied;
        let restored = self.restored_after.is_some_and(|last| applied > last);
        let missing: Vec<i64> = (applied + 1..=self.current).filter(|id| !self.there(*id)).collect();
        if self.current < applied {
            return Err("the source's current event id".to_owned());
        }
        if applied > 0 && self.there(applied) && restored {
            return Err(format!("event {applied} of the source's log is not"));
        }
        match missing.first() {
            None => Ok((applied + 1..=self.current).collect()),
            Some(first) => {
                let last = missing.iter().zip(*first..).take_while(|(id, next)| *id == next).last().unwrap().1;
                Err(format!("events {first} to {last} are missing"))
            }
        }
    }
}

proptest! {
    #[test]
    fn it_says_what_a_naive_reader_would(history in history()) {
        let position = (history.applied > 0).then(|| at(history.applied));
        let from = read_from(position.as_ref(), Ids::Dense);
        let rows = (from + 1..=history.current).filter(|id| history.there(*id)).map(|id| history.event(id)).collect();
        match (check_from(position.as_ref(), history.current, rows), history.expected()) {
            (Ok(fresh), Ok(expected)) => {
                prop_assert_eq!(ids(&fresh.new), expected);
                prop_assert_eq!(fresh.late, vec![]);
                prop_assert_eq!(fresh.position.map_or(0, |position| position.id), history.current);
            }
            (Err(error), Err(expected)) => prop_assert!(error.to_string().starts_with(&expected), "{error}: {expected}"),
            (found, expected) => prop_assert!(false, "{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn pages_give_what_one_answer_gives(applied in 0i64..20, further in 0i64..40, page in 2usize..9) {
        let current = applied + further;
        let log = events(1..=current);
        let mut position = (applied > 0).then(|| at(applied));
        let mut found = Vec::new();
        loop {
            let from = read_from(position.as_ref(), Ids::Dense);
            let rows: Vec<_> = log.iter().filter(|row| row.event_id > from).take(page).cloned().collect();
            let complete = rows.len() < page;
            let fresh = check(position.as_ref(), Ids::Dense, Asked { current, complete }, rows).unwrap();
            found.extend(ids(&fresh.new));
            position = fresh.position;
            if complete {
                break;
            }
        }
        prop_assert_eq!(found, (applied + 1..=current).collect::<Vec<_>>());
    }
}
