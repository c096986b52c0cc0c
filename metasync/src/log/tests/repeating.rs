//! Hive 2.3, whose ids may repeat.

use super::super::*;
use super::{all_of, event, events, ids};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn seen(rows: &[EventRow]) -> Window {
    let mut window = Window::starting_after(0);
    window.note(rows);
    window
}

fn ordered(window: &Window) -> Ids<'_> {
    Ids::MayRepeat { window, ordered: true }
}

fn whats(rows: &[EventRow]) -> Vec<&str> {
    rows.iter().map(|row| row.message.as_str()).collect()
}

#[test]
fn rule_24_twins_are_new_in_the_order_of_the_log_and_each_row_comes_once() {
    let window = seen(&events(1..=2));
    let position = Position::from(&events([2])[0]);
    let mut rows = events(1..=2);
    rows.extend([event(3, 30, "b"), event(3, 30, "a"), event(4, 40, "c"), event(3, 30, "b")]);
    let fresh = check(Some(&position), ordered(&window), all_of(4), rows.clone()).unwrap();
    assert_eq!(whats(&fresh.new), ["b", "a", "c"]);
    assert_eq!(fresh.late, []);
    assert_eq!(fresh.position.unwrap().id, 4);
    // Over Thrift nothing is known of their order.
    let unordered = Ids::MayRepeat { window: &window, ordered: false };
    let fresh = check(Some(&position), unordered, all_of(4), rows).unwrap();
    assert_eq!((whats(&fresh.new), whats(&fresh.late)), (vec!["c"], vec!["b", "a"]));
    assert_eq!(fresh.position.unwrap().id, 4);
}

#[test]
fn rule_24_a_late_twin_is_reconciled_not_applied() {
    let window = seen(&events(1..=5));
    let position = Position::from(&events([5])[0]);
    let mut rows = events(1..=6);
    rows.extend([event(3, 31, "late"), event(5, 51, "later")]);
    let fresh = check(Some(&position), ordered(&window), all_of(6), rows).unwrap();
    assert_eq!((ids(&fresh.new), whats(&fresh.late)), (vec![6], vec!["late", "later"]));
    // Once noted, never again.
    let mut window = window;
    window.note(fresh.new.iter().chain(&fresh.late));
    let mut rows = events(1..=6);
    rows.push(event(3, 31, "late"));
    let fresh = check(fresh.position.as_ref(), ordered(&window), all_of(6), rows).unwrap();
    assert_eq!((fresh.new, fresh.late), (vec![], vec![]));
}

#[test]
fn what_is_older_than_the_window_is_left_alone() {
    let mut window = Window::starting_after(3);
    window.note(&events(1..=5));
    assert_eq!(window.len(), 2);
    let position = Position::from(&events([5])[0]);
    assert_eq!(read_from(Some(&position), ordered(&window)), 3);
    let fresh = check(Some(&position), ordered(&window), all_of(5), events(1..=5)).unwrap();
    assert_eq!(fresh.late, []);
}

#[test]
fn a_sequence_that_a_slow_transaction_set_back_is_no_restored_source() {
    let window = seen(&events(1..=5));
    let position = Position::from(&events([5])[0]);
    let fresh = check(Some(&position), ordered(&window), all_of(3), events(1..=5)).unwrap();
    assert_eq!(fresh.position, Some(position.clone()));
    let restored = events(1..=3);
    let error = check(Some(&position), ordered(&window), all_of(3), restored).unwrap_err();
    assert_eq!(error, LogError::WentBack { id: 5, current: 3 });
}

#[test]
fn a_restored_or_cleaned_log_is_refused_as_on_later_versions() {
    let window = seen(&events(1..=5));
    let position = Position::from(&events([5])[0]);
    let check = |current, rows| check(Some(&position), ordered(&window), all_of(current), rows).unwrap_err();
    let mut other = events(1..=4);
    other.push(event(5, 50, "other"));
    assert_eq!(check(5, other), LogError::Differs { id: 5 });
    assert_eq!(check(6, events([3, 4, 6])), LogError::GoneEarly { id: 5, other: 3 });
    assert_eq!(check(9, events([9])), LogError::Cleaned { first: 6, last: 8 });
    assert_eq!(check(9, events([4, 5, 6, 9])), LogError::Missing { first: 7, last: 8 });
    assert_eq!(check(9, vec![]), LogError::Empty { first: 6, last: 9 });
    assert_eq!(check(9, events(1..=7)), LogError::Missing { first: 8, last: 9 });
}

#[test]
fn a_younger_twin_of_a_checkpoint_that_was_cleaned_is_late() {
    let window = seen(&events(1..=5));
    let position = Position::from(&events([5])[0]);
    let rows = vec![event(5, 55, "twin"), event(6, 60, "")];
    let fresh = check(Some(&position), ordered(&window), all_of(6), rows).unwrap();
    assert_eq!((ids(&fresh.new), whats(&fresh.late)), (vec![6], vec!["twin"]));
}

#[test]
fn a_page_that_does_not_reach_the_checkpoint_is_no_answer() {
    let window = seen(&events(1..=5));
    let position = Position::from(&events([5])[0]);
    let asked = Asked { current: 9, complete: false };
    for rows in [vec![], events(1..=4), vec![event(5, 50, "a twin of the checkpoint")]] {
        let error = check(Some(&position), ordered(&window), asked, rows).unwrap_err();
        assert_eq!(error, LogError::CutShort { id: 5 });
    }
}

/// What clients and a reader do to a log whose ids are taken without a lock.
#[derive(Clone, Debug)]
enum Step {
    /// A transaction takes an id.
    Begin,
    /// One of those that are open writes its event and sets the sequence.
    Commit(prop::sample::Index),
    /// The log is read, this many rows a page.
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Begin),
        4 => any::<prop::sample::Index>().prop_map(Step::Commit),
        1 => (1usize..8).prop_map(Step::Read),
    ]
}

/// What was handed out, by what it was.
#[derive(Default)]
struct Reader {
    position: Option<Position>,
    handed: BTreeMap<String, u32>,
}

impl Reader {
    /// Reads all that is there.
    fn read(&mut self, window: &mut Window, log: &[EventRow], current: i64, page: usize, ordered: bool) {
        let mut sorted = log.to_vec();
        sorted.sort_by_key(|row| row.event_id);
        let ids = Ids::MayRepeat { window, ordered };
        let mut from = read_from(self.position.as_ref(), ids);
        let mut limit = page;
        loop {
            let rows: Vec<_> = sorted.iter().filter(|row| row.event_id > from).take(limit).cloned().collect();
            let (complete, last) = (rows.len() < limit, rows.last().map_or(from, |row| row.event_id));
            let ids = Ids::MayRepeat { window, ordered };
            let fresh = match check(self.position.as_ref(), ids, Asked { current, complete }, rows) {
                Err(LogError::CutShort { .. }) => {
                    limit *= 2;
                    continue;
                }
                fresh => fresh.unwrap(),
            };
            let before = self.position.as_ref().map_or(0, |position| position.id);
            assert!(fresh.new.iter().all(|row| row.event_id > before), "what is applied goes on");
            assert!(fresh.new.is_sorted_by_key(|row| row.event_id));
            for row in fresh.new.iter().chain(&fresh.late) {
                *self.handed.entry(row.message.clone()).or_default() += 1;
            }
            window.note(fresh.new.iter().chain(&fresh.late));
            self.position = fresh.position;
            if complete {
                break;
            }
            // A page of nothing but twins needs more room.
            limit = if last - 1 <= from { limit * 2 } else { page };
            from = from.max(last - 1);
        }
    }
}

proptest! {
    #[test]
    fn rule_24_every_event_is_handed_out_once_however_transactions_race(steps in prop::collection::vec(step(), 1..80), ordered in any::<bool>()) {
        let (mut next, mut open, mut log) = (1i64, Vec::new(), Vec::new());
        let mut window = Window::starting_after(0);
        let mut reader = Reader::default();
        for step in steps.into_iter().chain([Step::Read(3)]) {
            match step {
                Step::Begin => open.push(next),
                Step::Commit(_) if open.is_empty() => {}
                Step::Commit(which) => {
                    let id = open.swap_remove(which.index(open.len()));
                    log.push(event(id, log.len() as i64, &log.len().to_string()));
                    next = id + 1;
                }
                Step::Read(page) => reader.read(&mut window, &log, next - 1, page, ordered),
            }
        }
        prop_assert_eq!(reader.handed.len(), log.len());
        prop_assert!(reader.handed.values().all(|times| *times == 1), "{:?}", reader.handed);
    }
}
