//! The store against a server that answers what the test wrote down, byte by byte: the lies that real servers tell.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::TryStreamExt as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::store::meter::Meter;
use crate::store::retry::{Retried, RetryPolicy};
use crate::store::scripted::{answer, serve};
use crate::store::{Precondition, Proof};

/// A store on a server that gives `answers` in turn, one a connection; and the requests that it saw.
async fn scripted(answers: Vec<String>) -> (S3Store, Arc<Mutex<Vec<String>>>) {
    let (endpoint, seen) = serve(answers).await;
    let options = BTreeMap::from([
        ("endpoint".to_owned(), endpoint),
        ("access_key_id".to_owned(), "AKIDEXAMPLE".to_owned()),
        ("secret_access_key".to_owned(), "hush-hush".to_owned()),
    ]);
    let config = S3Config { bucket: "bucket".into(), prefix: "root".into(), options, ..S3Config::default() };
    (S3Store::open(config).unwrap(), seen)
}

fn page(keys: &[&str], token: Option<&str>) -> String {
    let contents: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
                     <ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
            )
        })
        .collect();
    let more = match token {
        Some(token) => format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"),
        None => "<IsTruncated>false</IsTruncated>".into(),
    };
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><EncodingType>url</EncodingType><KeyCount>{}</KeyCount>{more}{contents}\
         </ListBucketResult>",
        keys.len()
    );
    answer("200 OK", "content-type: application/xml\r\n", &body)
}

async fn list(store: &dyn Store) -> Result<Vec<String>> {
    let pages: Vec<Vec<Listed>> = store.list(ListOptions::default()).try_collect().await?;
    Ok(pages.into_iter().flatten().map(|listed| listed.key.to_string()).collect())
}

fn error_xml(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so it is</Message></Error>")
}

#[tokio::test]
async fn listings_follow_tokens_and_leave_out_the_roots_own_marker() {
    let (store, seen) =
        scripted(vec![page(&["root/", "root/a+b"], Some("t/1+")), page(&["root/c%2Bd", "root/z"], None)]).await;
    assert_eq!(list(&store).await.unwrap(), ["a b", "c+d", "z"]);
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("GET /bucket/?encoding-type=url&list-type=2&max-keys=1000&prefix=root%2F HTTP"));
    assert!(seen[1].contains("continuation-token=t%2F1%2B"), "{}", seen[1]);
    assert!(seen[0].contains("AWS4-HMAC-SHA256") && !seen[0].contains("hush-hush"));
}

#[tokio::test]
async fn case_35_a_listing_out_of_order_is_an_error() {
    for keys in [["root/b", "root/a"], ["root/a", "root/a"]] {
        let (store, _) = scripted(vec![page(&keys, None)]).await;
        let error = list(&store).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Protocol);
        assert!(error.to_string().contains("out of order"), "{error}");
    }
    let (store, _) = scripted(vec![page(&["root/b"], Some("t")), page(&["root/a"], None)]).await;
    assert!(list(&store).await.unwrap_err().detail.contains("out of order"));
    let (store, _) = scripted(vec![page(&["rooted/b"], None)]).await;
    assert!(list(&store).await.unwrap_err().detail.contains("does not lie below"));
}

/// Started behind a key, such a server goes on with keys that lie before it in the order of bytes. The lister that came up to
/// that key has ended there, and would not see them.
#[tokio::test]
async fn case_35_a_listing_that_starts_in_utf_16_order_is_an_error() {
    let after = |key: &str| ListOptions { after: Some(key.into()), ..ListOptions::default() };
    let from = |key: &str, page: String| {
        let options = after(key);
        async move {
            let (store, _) = scripted(vec![page]).await;
            let pages: Vec<Vec<Listed>> = store.list(options).try_collect().await?;
            Ok::<_, StoreError>(pages.into_iter().flatten().map(|listed| listed.key.to_string()).collect::<Vec<_>>())
        }
    };
    let error = from("\u{1f600}/71", page(&["root/\u{ff01}/00"], None)).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Protocol);
    assert!(error.to_string().contains("out of order"), "{error}");
    // A server that begins at the beginning, whatever it is asked, is right.
    let whole = page(&["root/a", "root/\u{1f600}/70", "root/\u{1f600}/71", "root/\u{1f600}/72"], None);
    assert_eq!(from("\u{1f600}/71", whole).await.unwrap(), ["\u{1f600}/72"]);
}

#[tokio::test]
async fn an_html_page_is_no_listing_and_no_empty_one() {
    let html = answer("200 OK", "content-type: text/html\r\n", "<!DOCTYPE html><html><body>Log in</body></html>");
    let (store, _) = scripted(vec![html]).await;
    let error = list(&store).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Protocol);
    assert!(error.to_string().contains("HTML"), "{error}");
}

#[tokio::test]
async fn case_11_a_listing_that_fails_on_a_later_page_ends_with_the_error() {
    let broken = answer("504 Gateway Timeout", "", "<html>timeout</html>");
    let (store, _) = scripted(vec![page(&["root/a"], Some("t")), broken]).await;
    let mut pages = store.list(ListOptions::default());
    use futures::StreamExt as _;
    assert_eq!(pages.next().await.unwrap().unwrap().len(), 1);
    let error = pages.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.class()), (StoreErrorKind::Server, manifest::Class::Retryable));
    assert!(pages.next().await.is_none());
}

#[tokio::test]
async fn slow_down_is_waited_for_and_then_it_works() {
    let busy = answer("503 Slow Down", "retry-after: 0\r\n", &error_xml("SlowDown"));
    let (store, seen) = scripted(vec![busy.clone(), busy, page(&["root/a"], None)]).await;
    let meter = Arc::new(Meter::default());
    let policy = RetryPolicy { base: std::time::Duration::from_millis(1), ..RetryPolicy::default() };
    let retried = Retried::new(Arc::new(store), policy, 3, Arc::clone(&meter), CancellationToken::new());
    assert_eq!(list(&retried).await.unwrap(), ["a"]);
    assert_eq!((seen.lock().unwrap().len(), meter.snapshot().retries), (3, 2));
}

async fn read(store: &S3Store, options: GetOptions) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = store.get(&"k".into(), options).await?.body.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn case_24_a_body_that_ends_early_is_never_short_without_an_error() {
    let cut = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\netag: \"e\"\r\n\r\n01234".to_owned();
    let (store, _) = scripted(vec![cut]).await;
    let error = read(&store, GetOptions::default()).await.unwrap_err();
    assert_eq!(error.class(), manifest::Class::Retryable, "{error}");
    let endless = "HTTP/1.1 200 OK\r\nconnection: close\r\netag: \"e\"\r\n\r\n01234".to_owned();
    let (store, _) = scripted(vec![endless]).await;
    assert_eq!(read(&store, GetOptions::default()).await.unwrap_err().kind, StoreErrorKind::Protocol);
}

#[tokio::test]
async fn rule_13_another_version_is_noticed_where_if_match_is_ignored() {
    let (store, seen) = scripted(vec![answer("200 OK", "etag: \"new\"\r\n", "0123")]).await;
    let expect = Fingerprint { size_bytes: 4, etag: Some("old".into()), ..Fingerprint::default() };
    let options = GetOptions { range: None, expect: Some(expect) };
    assert_eq!(read(&store, options).await.unwrap_err().kind, StoreErrorKind::Precondition);
    assert!(seen.lock().unwrap()[0].contains("if-match: \"old\""));
}

#[tokio::test]
async fn ranges_are_answered_exactly_or_refused() {
    let get = |range| GetOptions { range: Some(range), expect: None };
    let part =
        |range: &str, body: &str| answer("206 Partial", &format!("etag: \"e\"\r\ncontent-range: {range}\r\n"), body);
    let (store, seen) = scripted(vec![part("bytes 2-4/10", "234")]).await;
    assert_eq!(read(&store, get(2..5)).await.unwrap(), b"234");
    assert!(seen.lock().unwrap()[0].contains("range: bytes=2-4"));
    let table = [
        (answer("200 OK", "etag: \"e\"\r\n", "0123456789"), StoreErrorKind::Protocol),
        (part("bytes 3-5/10", "345"), StoreErrorKind::Protocol),
        (part("bytes 2-4/10", "23"), StoreErrorKind::Protocol),
        (part("bytes 2-3/4", "23"), StoreErrorKind::Precondition),
        (answer("416 Range", "", &error_xml("InvalidRange")), StoreErrorKind::Precondition),
        (answer("403 Forbidden", "", &error_xml("InvalidObjectState")), StoreErrorKind::Archived),
    ];
    for (answer, kind) in table {
        let (store, _) = scripted(vec![answer]).await;
        assert_eq!(read(&store, get(2..5)).await.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn proofs_are_claimed_only_on_evidence() {
    let body = Bytes::from_static(b"body");
    let sum = checksum::Algorithm::Crc64Nvme.of(&body).await;
    let md5 = checksum::md5_hex_now(&body);
    let table = [
        (format!("etag: \"kms\"\r\nx-amz-checksum-crc64nvme: {sum}\r\n"), Proof::Checksum),
        (format!("etag: \"{md5}\"\r\n"), Proof::Checksum),
        ("etag: \"kms\"\r\n".to_owned(), Proof::None),
        ("etag: \"kms\"\r\nx-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n".to_owned(), Proof::None),
        (format!("etag: \"{}\"\r\n", "0".repeat(32)), Proof::None),
    ];
    for (headers, proof) in table {
        let (store, seen) = scripted(vec![answer("200 OK", &headers, "")]).await;
        let options = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
        let written = store.put(&"k".into(), body.clone().into(), &options).await.unwrap();
        assert_eq!((written.proof, written.fingerprint.size_bytes), (proof, 4), "{headers}");
        let seen = seen.lock().unwrap();
        assert!(seen[0].starts_with("PUT /bucket/root/k HTTP") && seen[0].contains("if-none-match: *"));
        assert!(seen[0].contains(&format!("x-amz-checksum-crc64nvme: {sum}")));
    }
    // A page that answers 200 to a PUT is no store.
    let (store, _) = scripted(vec![answer("200 OK", "", "<html></html>")]).await;
    let error = store.put(&"k".into(), body.into(), &PutOptions::default()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Protocol);
}

#[tokio::test]
async fn a_completion_or_copy_that_answers_200_with_an_error_failed() {
    let failed =
        || answer("200 OK", "", &format!("  {}", error_xml("InternalError").replace("<?xml version=\"1.0\"?>", "")));
    let part = PartSpec { number: 1, offset: 0, size_bytes: 4 };
    let parts = [UploadedPart { part, etag: "e".into(), checksum: String::new(), proof: Proof::Checksum }];
    let (store, _) = scripted(vec![failed()]).await;
    let answered = store.complete_upload(&"k".into(), &UploadId("u".into()), &parts, &PutOptions::default()).await;
    assert_eq!(answered.unwrap_err().kind, StoreErrorKind::Server);
    let (store, _) = scripted(vec![failed()]).await;
    let expect = Fingerprint { size_bytes: 4, etag: Some("e".into()), ..Fingerprint::default() };
    let answered = store.copy(&CopySource::here(&"k".into(), &expect), &"l".into(), &PutOptions::default()).await;
    assert_eq!(answered.unwrap_err().kind, StoreErrorKind::Server);
}

#[tokio::test]
async fn a_completion_without_proof_is_checked_by_size() {
    let done = "<CompleteMultipartUploadResult><ETag>\"x-1\"</ETag></CompleteMultipartUploadResult>";
    let head =
        |size: u64| format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {size}\r\netag: \"x-1\"\r\n\r\n");
    let part = PartSpec { number: 1, offset: 0, size_bytes: 4 };
    let parts = [UploadedPart { part, etag: "e".into(), checksum: String::new(), proof: Proof::None }];
    for (size, right) in [(4, true), (5, false)] {
        let (store, _) = scripted(vec![answer("200 OK", "", done), head(size)]).await;
        let answered = store.complete_upload(&"k".into(), &UploadId("u".into()), &parts, &PutOptions::default()).await;
        assert_eq!(answered.map(|written| written.proof).ok(), right.then_some(Proof::None));
    }
}

#[tokio::test]
async fn deletes_answer_for_every_key() {
    let result = "<DeleteResult><Deleted><Key>root/a</Key></Deleted>\
                  <Error><Key>root/b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
    // `c` was not named, so it is asked for by itself; `bell` fits into no XML.
    let single = || answer("204 No Content", "", "");
    let (store, seen) = scripted(vec![answer("200 OK", "", result), single(), single()]).await;
    let keys: Vec<ObjectKey> = ["a", "b", "c", "bell\u{7}", "../up"].map(Into::into).into();
    let answers = store.delete(&keys).await;
    let kinds: Vec<Option<StoreErrorKind>> =
        answers.iter().map(|answer| answer.as_ref().err().map(|error| error.kind)).collect();
    let denied = Some(StoreErrorKind::Permission);
    assert_eq!(kinds, [None, denied, None, None, Some(StoreErrorKind::InvalidKey)]);
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("POST /bucket/?delete= HTTP") && seen[0].contains("content-md5: "));
    assert!(!seen[0].contains("<Quiet>"));
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn deletes_go_one_by_one_where_there_are_no_batches() {
    let refused = answer("501 Not Implemented", "", &error_xml("NotImplemented"));
    let single = || answer("204 No Content", "", "");
    let (store, seen) = scripted(vec![refused, single(), single(), single(), single()]).await;
    for _ in 0..2 {
        let answers = store.delete(&["a".into(), "b".into()]).await;
        assert!(answers.iter().all(Result::is_ok));
    }
    let posts = seen.lock().unwrap().iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(posts, 1, "it is tried once");
}

#[tokio::test]
async fn a_copy_that_must_not_overwrite_asks_first() {
    let there = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\netag: \"x\"\r\n\r\n".to_owned();
    let (store, seen) = scripted(vec![there]).await;
    let expect = Fingerprint { size_bytes: 4, etag: Some("e".into()), ..Fingerprint::default() };
    let options = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
    let error = store.copy(&CopySource::here(&"a b".into(), &expect), &"l".into(), &options).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Precondition);
    assert_eq!(seen.lock().unwrap().len(), 1);
    let gone = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned();
    let copied = answer("200 OK", "", "<CopyObjectResult><ETag>&quot;e2&quot;</ETag></CopyObjectResult>");
    let (store, seen) = scripted(vec![gone, copied]).await;
    let written = store.copy(&CopySource::here(&"a b".into(), &expect), &"l".into(), &options).await.unwrap();
    assert_eq!((written.fingerprint.etag.as_deref(), written.proof), (Some("e2"), Proof::None));
    let seen = seen.lock().unwrap();
    assert!(seen[1].contains("x-amz-copy-source: /bucket/root/a%20b"), "{}", seen[1]);
    assert!(seen[1].contains("x-amz-copy-source-if-match: \"e\"") && seen[1].contains("if-none-match: *"));
}
