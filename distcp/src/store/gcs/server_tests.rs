//! The store against a server that answers what the test wrote down, byte by byte: answers that are short, late, wrong or
//! lies.

use std::sync::Mutex;

use futures::TryStreamExt as _;
use manifest::Fingerprint;

use super::*;
use crate::store::scripted::{answer, serve};
use crate::store::{PartSpec, Precondition, Proof};

/// A store on a server that gives `answers` in turn; and the requests that it saw.
async fn scripted(answers: Vec<String>) -> (GcsStore, Arc<Mutex<Vec<String>>>) {
    let (endpoint, seen) = serve(answers).await;
    let options = [("base_url", endpoint.as_str()), ("bearer_token", "hush")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = GcsConfig { bucket: "lake".into(), prefix: "root".into(), options, ..GcsConfig::default() };
    (GcsStore::open(config).unwrap(), seen)
}

fn json(body: &str) -> String {
    answer("200 OK", "content-type: application/json\r\n", body)
}

fn failure(status: &str, reason: &str) -> String {
    let body = format!(r#"{{"error":{{"message":"so it is","errors":[{{"reason":"{reason}"}}]}}}}"#);
    answer(status, "", &body)
}

fn item(name: &str) -> String {
    format!(
        r#"{{"name":"{name}","generation":"7","size":"4","md5Hash":"XUFAKrxLKna5cZ2REBfFkg==","crc32c":"AAAAAA=="}}"#
    )
}

fn page(names: &[&str], token: &str) -> String {
    let items: Vec<String> = names.iter().map(|name| item(name)).collect();
    json(&format!(r#"{{"kind":"storage#objects","nextPageToken":"{token}","items":[{}]}}"#, items.join(",")))
}

async fn list(store: &GcsStore, options: ListOptions) -> Result<Vec<String>> {
    let pages: Vec<Vec<Listed>> = store.list(options).try_collect().await?;
    Ok(pages.into_iter().flatten().map(|listed| listed.key.to_string()).collect())
}

fn version(generation: &str) -> Fingerprint {
    Fingerprint { size_bytes: 4, etag: None, version: Some(generation.into()), ..Fingerprint::default() }
}

#[tokio::test]
async fn listings_follow_tokens_to_the_end_or_fail() {
    let (store, seen) = scripted(vec![page(&["root/", "root/a"], "t+/="), page(&["root/b"], "")]).await;
    assert_eq!(list(&store, ListOptions::default()).await.unwrap(), ["a", "b"]);
    let seen = seen.lock().unwrap().clone();
    assert!(seen[0].contains("authorization: Bearer hush"), "{}", seen[0]);
    assert!(seen[1].contains("&pageToken=t%2B%2F%3D "), "{}", seen[1]);
    for (answers, kind) in [
        (vec![page(&["root/a"], "t"), page(&["root/b"], "t")], StoreErrorKind::Protocol),
        (vec![page(&["root/b", "root/a"], "")], StoreErrorKind::Protocol),
        (vec![page(&["rooted/a"], "")], StoreErrorKind::Protocol),
        (vec![page(&[""], "")], StoreErrorKind::Protocol),
        // Nothing that only looks like an empty bucket is one.
        (vec![json("{}")], StoreErrorKind::Protocol),
        (vec![json("[]")], StoreErrorKind::Protocol),
        (vec![json(r#"{"kind":"storage#buckets"}"#)], StoreErrorKind::Protocol),
        (vec![answer("200 OK", "", "<!DOCTYPE html><html></html>")], StoreErrorKind::Protocol),
        (
            vec![page(&["root/a"], "t"), failure("429 Too Many Requests", "rateLimitExceeded")],
            StoreErrorKind::Throttled,
        ),
        (vec![failure("404 Not Found", "notFound")], StoreErrorKind::NoBucket),
        (vec![failure("403 Forbidden", "forbidden")], StoreErrorKind::Permission),
    ] {
        let (store, _) = scripted(answers).await;
        assert_eq!(list(&store, ListOptions::default()).await.unwrap_err().kind, kind);
    }
    let (store, _) = scripted(vec![json(r#"{"kind":"storage#objects"}"#)]).await;
    assert_eq!(list(&store, ListOptions::default()).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_busy_service_says_when_to_come_back() {
    for (status, reason, kind) in [
        ("503 Service Unavailable", "backendError", StoreErrorKind::Server),
        ("429 Too Many Requests", "rateLimitExceeded", StoreErrorKind::Throttled),
        ("408 Request Timeout", "", StoreErrorKind::Timeout),
    ] {
        let busy = failure(status, reason).replacen("\r\n", "\r\nretry-after: 7\r\n", 1);
        let (store, _) = scripted(vec![busy]).await;
        let error = store.head(&"k".into()).await.unwrap_err();
        assert_eq!((error.kind, error.retry_after), (kind, Some(std::time::Duration::from_secs(7))), "{status}");
        assert_eq!(error.class(), manifest::Class::Retryable);
        assert!(error.to_string().contains("so it is") && !error.to_string().contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn a_body_is_whole_or_an_error() {
    let headers = "x-goog-generation: 7\r\n";
    let media = |headers: &str, body: &str| answer("200 OK", headers, body);
    let look = || json(&item("root/k"));
    let cut = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\nx-goog-generation: 7\r\n\r\nab".to_owned();
    // The request for bytes comes first where no version is expected.
    let whole = |answers: Vec<String>| async move {
        let (store, _) = scripted(answers).await;
        let got = store.get(&"k".into(), GetOptions::default()).await?;
        got.body.try_collect::<Vec<Bytes>>().await.map(|pieces| pieces.concat())
    };
    assert_eq!(whole(vec![media(headers, "abcd"), look()]).await.unwrap(), b"abcd");
    let unpacked = format!("{headers}x-guploader-response-body-transformations: gunzipped\r\n");
    for (answers, kinds) in [
        (vec![cut, look()], &[StoreErrorKind::Corrupt, StoreErrorKind::Connection][..]),
        (vec![media(headers, "abcde"), look()], &[StoreErrorKind::Protocol]),
        (vec![media("", "abcd"), look()], &[StoreErrorKind::Protocol]),
        (vec![media(&unpacked, "abcd"), look()], &[StoreErrorKind::Protocol]),
        (vec![media(headers, "abcd"), json(&item("root/other"))], &[StoreErrorKind::Protocol]),
        (vec![media("x-goog-generation: 8\r\n", "abcd"), look()], &[StoreErrorKind::Protocol]),
    ] {
        let is_unpacked = answers[0].contains("gunzipped");
        let error = whole(answers).await.unwrap_err();
        assert!(kinds.contains(&error.kind), "{error}");
        assert_eq!(error.to_string().contains("no-transform"), is_unpacked, "{error}");
    }
}

#[tokio::test]
async fn a_proof_is_claimed_only_on_evidence() {
    let told = "x-goog-generation: 8\r\nx-goog-hash: crc32c=ksgKMQ==,md5=4vxxTEcn7pOV8yTNLn8zHw==\r\n";
    let put = async |answers: Vec<String>| {
        let (store, seen) = scripted(answers).await;
        let written = store.put(&"k".into(), "abcd".into(), &PutOptions::default()).await;
        let requests = seen.lock().unwrap().len();
        (written, requests)
    };
    let (written, requests) = put(vec![answer("200 OK", told, "")]).await;
    let written = written.unwrap();
    assert_eq!((written.proof, requests), (Proof::Checksum, 1));
    assert_eq!(written.fingerprint.content_etag(), Some("e2fc714c4727ee9395f324cd2e7f331f"));
    assert_eq!(written.fingerprint.version.as_deref(), Some("8"));
    // An answer that tells less: the object is looked at.
    let held = item("root/k").replace("AAAAAA==", "ksgKMQ==");
    let (written, requests) = put(vec![answer("200 OK", "", ""), json(&held)]).await;
    assert_eq!((written.unwrap().proof, requests), (Proof::Checksum, 2));
    let (lie, _) = put(vec![answer("200 OK", "", ""), json(&item("root/k"))]).await;
    assert_eq!(lie.unwrap_err().kind, StoreErrorKind::Precondition);
    let bad = "<Error><Code>BadDigest</Code><Message>The CRC32C is another.</Message></Error>";
    let (damaged, _) = put(vec![answer("400 Bad Request", "", bad)]).await;
    assert_eq!(damaged.unwrap_err().kind, StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn bytes_that_changed_after_they_were_read_are_not_sent() {
    let (store, seen) = scripted(Vec::new()).await;
    let body = Payload::from("abcd").damaged(Bytes::from_static(b"abxd"));
    let put = store.put(&"k".into(), body.clone(), &PutOptions::default()).await.unwrap_err();
    let part = PartSpec { number: 1, offset: 0, size_bytes: 4 };
    let sent = store.put_part(&"k".into(), &UploadId("u".into()), part, body).await.unwrap_err();
    assert_eq!((put.kind, sent.kind), (StoreErrorKind::Corrupt, StoreErrorKind::Corrupt));
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_copy_ends_or_fails() {
    let step = |moved: u32| {
        json(&format!(r#"{{"kind":"x","totalBytesRewritten":"{moved}","done":false,"rewriteToken":"t"}}"#))
    };
    let done = |item: &str| json(&format!(r#"{{"totalBytesRewritten":"4","done":true,"resource":{item}}}"#));
    let short = item("root/to").replace("\"4\"", "\"3\"");
    for (answers, kind) in [
        (vec![step(2), step(2)], StoreErrorKind::Protocol),
        (vec![step(0)], StoreErrorKind::Protocol),
        (vec![json("{}")], StoreErrorKind::Protocol),
        (vec![json(r#"{"done":true}"#)], StoreErrorKind::Protocol),
        (vec![done(&short)], StoreErrorKind::Corrupt),
        (vec![step(2), failure("410 Gone", "gone")], StoreErrorKind::Server),
        (vec![failure("412 Precondition Failed", "conditionNotMet")], StoreErrorKind::Precondition),
        (vec![failure("404 Not Found", "notFound")], StoreErrorKind::NotFound),
    ] {
        let (store, _) = scripted(answers).await;
        let copied =
            store.copy(&CopySource::here(&"from".into(), &version("7")), &"to".into(), &PutOptions::default()).await;
        assert_eq!(copied.unwrap_err().kind, kind);
    }
    let (store, seen) = scripted(vec![step(2), done(&item("root/to"))]).await;
    let options = PutOptions { precondition: Precondition::Matches(version("5")), ..PutOptions::default() };
    let service = store.client.base_url.clone();
    let origin = Origin::Gcs(GcsOrigin { service, bucket: "else.where".into(), prefix: "pre".into() });
    assert!(store.copies_from(&origin).is_some());
    let (key, expect) = ("a/b".into(), version("7"));
    let source = CopySource { origin: Some(&origin), key: &key, expect: &expect, keep_attributes: false };
    let copied = store.copy(&source, &"to".into(), &options).await.unwrap();
    assert_eq!((copied.proof, copied.fingerprint.version.as_deref()), (Proof::None, Some("7")));
    let seen = seen.lock().unwrap().clone();
    let first = "POST /storage/v1/b/else.where/o/pre%2Fa%2Fb/rewriteTo/b/lake/o/root%2Fto\
                 ?ifSourceGenerationMatch=7&ifGenerationMatch=5";
    assert!(seen[0].starts_with(&format!("{first} ")) && seen[0].contains("content-length: 0\r\n"), "{}", seen[0]);
    assert!(seen[1].starts_with(&format!("{first}&rewriteToken=t ")), "{}", seen[1]);
}

#[tokio::test]
async fn a_completion_that_says_ok_can_be_a_failure() {
    let part = UploadedPart {
        part: PartSpec { number: 1, offset: 0, size_bytes: 4 },
        etag: "e&2".into(),
        checksum: "ksgKMQ==".into(),
        proof: Proof::Checksum,
    };
    let done = || answer("200 OK", "", "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>");
    let held = json(&item("root/k").replace("AAAAAA==", "ksgKMQ=="));
    let wrong = answer("200 OK", "", "<Error><Code>InternalError</Code><Message>m</Message></Error>");
    for (answers, expected) in [
        (vec![done(), held], Ok(Proof::Checksum)),
        (vec![done(), json(&item("root/k"))], Err(StoreErrorKind::Precondition)),
        (vec![done(), failure("404 Not Found", "notFound")], Err(StoreErrorKind::Precondition)),
        (vec![wrong], Err(StoreErrorKind::Server)),
    ] {
        let (store, seen) = scripted(answers).await;
        let options = PutOptions::default();
        let finished =
            store.complete_upload(&"k".into(), &UploadId("u/1".into()), std::slice::from_ref(&part), &options).await;
        assert_eq!(finished.map(|written| written.proof).map_err(|error| error.kind), expected);
        let seen = seen.lock().unwrap().clone();
        assert!(seen[0].starts_with("POST /lake/root%2Fk?uploadId=u%2F1 "), "{}", seen[0]);
        assert!(seen[0].contains("<PartNumber>1</PartNumber><ETag>&quot;e&amp;2&quot;</ETag>"), "{}", seen[0]);
        assert!(!seen[0].contains("x-goog-if-generation-match"), "the service refuses conditions here");
    }
}
