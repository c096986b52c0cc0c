//! What the window keeps.

use super::super::*;
use super::{event, events};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn rule_24_it_holds_at_least_an_hour_and_a_thousand_ids() {
    // A slow log: a thousand ids are more than an hour.
    let mut window = Window::starting_after(0);
    window.note(&events(1..=5000));
    assert_eq!((window.after(), window.len()), (5000 - WINDOW_IDS, 1000));
    // A fast one: an hour is more than a thousand ids.
    let mut window = Window::starting_after(0);
    let fast: Vec<_> = (1..=8000).map(|id| event(id, id, "")).collect();
    window.note(&fast);
    assert_eq!((window.after(), window.len()), (8000 - WINDOW_SECONDS - 1, 3601));
}

#[test]
fn it_never_holds_more_than_its_bound() {
    let mut window = Window::starting_after(0);
    let most = MAX_WINDOW_EVENTS as i64;
    let same_second: Vec<_> = (1..=most + 10).map(|id| event(id, 7, "")).collect();
    window.note(&same_second);
    assert_eq!((window.after(), window.len()), (10, MAX_WINDOW_EVENTS));
}

#[test]
fn events_of_one_id_are_forgotten_together() {
    let mut window = Window::starting_after(0);
    let mut rows: Vec<_> = (0..3).map(|twin| event(1, 0, &twin.to_string())).collect();
    rows.push(event(2, 0, ""));
    rows.push(event(2000, 10_000, ""));
    window.note(&rows);
    assert_eq!((window.after(), window.len()), (2, 1));
    window.note(&rows);
    assert_eq!(window.len(), 1, "what was forgotten stays so");
}

#[test]
fn it_comes_back_from_its_text() {
    let mut window = Window::starting_after(2);
    window.note(&events(1..=4));
    let text = serde_json::to_string(&window).unwrap();
    assert!(text.starts_with(r#"{"after":2,"seen":[[3,30,""#), "{text}");
    assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window);
    assert!(serde_json::from_str::<Window>(r#"{"after":2,"seen":[[3,30]]}"#).is_err());
}

proptest! {
    #[test]
    fn all_above_the_window_s_start_is_in_it_and_what_must_be_kept_is_above(rows in prop::collection::vec((1i64..6000, 0i64..9000, 0u8..3), 1..60), cuts in prop::collection::vec(0usize..60, 0..4)) {
        let mut rows: Vec<_> = rows.into_iter().map(|(id, time, twin)| event(id, time, &twin.to_string())).collect();
        let mut window = Window::starting_after(0);
        let mut known = BTreeSet::new();
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let now: Vec<_> = rows.drain(..cut.min(rows.len())).collect();
            // What is below the start when it comes is not taken in.
            let above = now.iter().filter(|row| row.event_id > window.after());
            known.extend(above.map(|row| (row.event_id, row.event_time, digest(row))));
            window.note(&now);
        }
        let held: BTreeSet<_> = window.digests().copied().collect();
        let (newest_id, newest_time) =
            (known.iter().map(|row| row.0).max().unwrap_or(0), known.iter().map(|row| row.1).max().unwrap_or(0));
        prop_assert_eq!(window.len(), held.len());
        for (id, _, digest) in &known {
            prop_assert_eq!(*id > window.after(), held.contains(digest));
        }
        let too_old = |row: &&(i64, i64, [u8; 32])| row.0 <= newest_id - WINDOW_IDS && row.1 < newest_time - WINDOW_SECONDS;
        let kept = known.iter().filter(|row| !too_old(row)).map(|row| row.0).min();
        prop_assert!(kept.is_none_or(|id| window.after() < id), "{kept:?} is not above {}", window.after());
    }
}
