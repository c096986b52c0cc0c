//! State in an object store: atomic, conditional, and right when an answer is lost (rule 16, case 48).

use std::sync::Arc;

use bytes::Bytes;
use distcp::store::memory::MemoryStore;
use distcp::store::state::ObjectState;
use distcp::store::{Store, StoreErrorKind};
use manifest::state::{StateStore, Tag};
use manifest::{Class, Error};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};

fn state(store: &MemoryStore, rules: Vec<Rule>) -> ObjectState {
    let faulty = FaultStore::new(Arc::new(store.clone()), FaultPlan { rules, ..FaultPlan::default() });
    ObjectState::new(Arc::new(faulty)).unwrap()
}

async fn text(state: &ObjectState, name: &str) -> Option<String> {
    state.get(name).await.unwrap().map(|(bytes, _)| String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn rule_16_create_and_swap_are_conditional() {
    let state = state(&MemoryStore::new(), vec![]);
    assert_eq!(state.get("job/lease.json").await.unwrap(), None);
    let first = state.create("job/lease.json", "one".into()).await.unwrap().unwrap();
    assert_eq!(state.create("job/lease.json", "two".into()).await.unwrap(), None);
    assert_eq!(state.create("job/lease.json", "one".into()).await.unwrap(), None, "not even with the same bytes");
    let (bytes, tag) = state.get("job/lease.json").await.unwrap().unwrap();
    assert_eq!((bytes, &tag), (Bytes::from("one"), &first));
    let second = state.swap("job/lease.json", "two".into(), &first).await.unwrap().unwrap();
    for stale in [&first, &Tag("not ours".into()), &Tag("3:0".into())] {
        assert_eq!(state.swap("job/lease.json", "six".into(), stale).await.unwrap(), None, "{stale:?}");
    }
    assert_eq!(text(&state, "job/lease.json").await.as_deref(), Some("two"));
    state.delete("job/lease.json").await.unwrap();
    state.delete("job/lease.json").await.unwrap();
    assert_eq!(state.swap("job/lease.json", "ten".into(), &second).await.unwrap(), None, "it is gone");
}

#[tokio::test]
async fn case_48_a_lost_answer_is_found_out_by_looking() {
    let memory = MemoryStore::new();
    let lost = |times| vec![Rule::every(Method::Put, Fault::LostAnswer).times(times)];

    // It was done: the tag that the answer would have brought.
    let state_1 = state(&memory, lost(2));
    let tag = state_1.create("a", "one".into()).await.unwrap().expect("ours");
    assert_eq!(state_1.get("a").await.unwrap().unwrap().1, tag);
    let tag = state_1.swap("a", "two".into(), &tag).await.unwrap().expect("ours");
    assert_eq!(state_1.get("a").await.unwrap().unwrap().1, tag);

    // It was not done: that is an error, which can be tried again.
    let reset = Rule::every(Method::Put, Fault::Fail(StoreErrorKind::Connection)).times(2);
    let state_2 = state(&memory, vec![reset]);
    let class = |answer: manifest::Result<Option<Tag>>| answer.unwrap_err().class();
    assert_eq!(class(state_2.create("b", "one".into()).await), Class::Retryable);
    assert_eq!(class(state_2.swap("a", "three".into(), &tag).await), Class::Retryable);
    assert_eq!(text(&state_2, "a").await.as_deref(), Some("two"));
    assert!(state_2.swap("a", "three".into(), &tag).await.unwrap().is_some());

    // Another stands there: refused, whatever became of ours.
    let timeouts = vec![Rule::every(Method::Put, Fault::Fail(StoreErrorKind::Timeout))];
    let state_3 = state(&memory, timeouts);
    assert_eq!(state_3.create("a", "four".into()).await.unwrap(), None);
    assert_eq!(state_3.swap("a", "four".into(), &tag).await.unwrap(), None);

    // And nothing can be seen: an error.
    let get_fails = Rule::every(Method::Get, Fault::Fail(StoreErrorKind::Server));
    let blind = state(&memory, [lost(1), vec![get_fails]].concat());
    assert_eq!(class(blind.create("c", "one".into()).await), Class::Retryable);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_a_file() {
    let memory = MemoryStore::new();
    let state = state(&memory, vec![Rule::first(Method::Get, Fault::Truncate)]);
    state.create("a", "all of it".into()).await.unwrap();
    assert_eq!(state.get("a").await.unwrap_err().class(), Class::Retryable);
    assert_eq!(text(&state, "a").await.as_deref(), Some("all of it"));
}

#[tokio::test]
async fn listings_are_of_one_folder_and_aged_by_the_stores_clock() {
    let state = state(&MemoryStore::new(), vec![]);
    for name in ["job-2/x", "job.json", "job/checkpoint.json", "job/parts/1", "job/parts/2", "jobs/y"] {
        state.create(name, name.to_owned().into()).await.unwrap().unwrap();
    }
    let mut items = state.list("job/").await.unwrap();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    let found: Vec<_> = items.iter().map(|i| (i.name.as_str(), i.size_bytes, i.age_s)).collect();
    assert_eq!(
        found,
        [("job/checkpoint.json", 19, Some(2)), ("job/parts/1", 11, Some(1)), ("job/parts/2", 11, Some(0))]
    );
    assert_eq!(state.list("").await.unwrap().len(), 6);
    assert_eq!(state.list("none/").await.unwrap(), []);
}

#[tokio::test]
async fn errors_say_what_can_be_done() {
    let denied = Rule::every(Method::Put, Fault::Fail(StoreErrorKind::Permission));
    let listing = Rule::every(Method::List, Fault::Fail(StoreErrorKind::Throttled));
    let state = state(&MemoryStore::new(), vec![denied, listing]);
    match state.create("job/lease.json", "x".into()).await.unwrap_err() {
        Error::State { operation, name, class, permission, reason, .. } => {
            assert_eq!(
                (operation, name.as_str(), class, permission),
                ("create", "job/lease.json", Class::Permanent, true)
            );
            assert!(!reason.contains("lease.json"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(state.list("").await.unwrap_err().class(), Class::Retryable);
}

#[test]
fn rule_16_a_store_without_conditions_holds_no_state() {
    for lacking in 0..3 {
        let store = MemoryStore::with_capabilities(|capabilities| match lacking {
            0 => capabilities.etags = false,
            1 => capabilities.conditional_create = false,
            _ => capabilities.conditional_replace = false,
        });
        assert!(matches!(ObjectState::new(Arc::new(store) as Arc<dyn Store>), Err(Error::UnsafeState { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_16_state_in_an_object_store_keeps_the_state_contract() {
    let store = ObjectState::new(Arc::new(MemoryStore::new())).unwrap();
    manifest::state::contract::state_store_contract(Arc::new(store)).await;
}

#[tokio::test]
async fn folders_are_told_without_listing_their_files() {
    let memory = MemoryStore::new();
    let store = state(&memory, vec![]);
    for folder in ["a", "a-b", "b"] {
        for file in 0..40 {
            store.create(&format!("{folder}/parts/{file}"), "x".into()).await.unwrap();
        }
    }
    store.create("file", "x".into()).await.unwrap();
    assert_eq!(store.folders("").await.unwrap(), ["a", "a-b", "b"]);
    assert_eq!(store.folders("a/").await.unwrap(), ["parts"]);
    assert_eq!(store.folders("c/").await.unwrap(), Vec::<String>::new());
}
