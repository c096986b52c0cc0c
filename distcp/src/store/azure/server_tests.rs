//! The store against a server that answers what the test wrote down, byte by byte: what Azure says and Azurite does not, and
//! the lies that stand between.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::TryStreamExt as _;
use manifest::EntryKind;

use super::*;
use crate::store::scripted::{answer, serve};
use crate::store::{Precondition, Proof};
use manifest::Fingerprint;

/// A store on a server that gives `answers` in turn, one a connection; and the requests that it saw.
async fn scripted(answers: Vec<String>, login: (&str, &str)) -> (AzureStore, Arc<Mutex<Vec<String>>>) {
    scripted_as("acc", answers, login).await
}

/// The same, of an account whose endpoint ends with `/acc`.
async fn scripted_as(
    account: &str,
    answers: Vec<String>,
    login: (&str, &str),
) -> (AzureStore, Arc<Mutex<Vec<String>>>) {
    let (endpoint, seen) = serve(answers).await;
    let endpoint = format!("{endpoint}/acc");
    let options = BTreeMap::from([("endpoint".to_owned(), endpoint), (login.0.to_owned(), login.1.to_owned())]);
    let config = AzureConfig {
        account: Some(account.into()),
        container: "box".into(),
        prefix: "root".into(),
        options,
        ..AzureConfig::default()
    };
    (AzureStore::open(config).unwrap(), seen)
}

const KEY: (&str, &str) = ("account_key", "aHVzaC1odXNo");

/// The answer to a HEAD: a length without a body.
fn head(size_bytes: u64, headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {size_bytes}\r\n{headers}\r\n")
}

fn error(status: &str, code: &str) -> String {
    let body = format!(
        "\u{feff}<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so it is\nRequestId:1</Message></Error>"
    );
    answer(status, &format!("x-ms-error-code: {code}\r\n"), &body)
}

fn page(names: &[&str], marker: &str) -> String {
    let blobs: String = names
        .iter()
        .map(|name| {
            format!(
                "<Blob><Name>{name}</Name><Properties><Last-Modified>Mon, 01 Jan 2024 00:00:00 GMT</Last-Modified>\
                 <Etag>0x1</Etag><Content-Length>1</Content-Length></Properties></Blob>"
            )
        })
        .collect();
    let body = format!(
        "\u{feff}<?xml version=\"1.0\"?><EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker>\
         </EnumerationResults>"
    );
    answer("200 OK", "", &body)
}

async fn list(store: &AzureStore) -> Result<Vec<String>> {
    let pages: Vec<Vec<Listed>> = store.list(ListOptions::default()).try_collect().await?;
    Ok(pages.into_iter().flatten().map(|listed| listed.key.to_string()).collect())
}

fn fingerprint(etag: &str) -> Fingerprint {
    Fingerprint { size_bytes: 4, etag: Some(etag.into()), ..Fingerprint::default() }
}

#[tokio::test]
async fn listings_follow_markers_to_the_end_or_fail() {
    // In the order of an account with folders, and with the root's own marker.
    let pages = vec![page(&["root/", "root/a/x", "root/a-b"], "2!8!m+/="), page(&["root/z"], "")];
    let (store, seen) = scripted(pages, KEY).await;
    assert_eq!(list(&store).await.unwrap(), ["a/x", "a-b", "z"]);
    let seen = seen.lock().unwrap().clone();
    assert!(
        seen[0]
            .starts_with("GET /acc/box?restype=container&comp=list&include=metadata&maxresults=2000&prefix=root%2F ")
    );
    assert!(seen[1].contains("marker=2%218%21m%2B%2F%3D"), "{}", seen[1]);
    assert!(seen[0].contains("SharedKey acc:") && !seen[0].contains("aHVzaC1odXNo"));
    for (answers, kind) in [
        (vec![page(&["root/a"], "m"), page(&["root/b"], "m")], StoreErrorKind::Protocol),
        (vec![page(&["rooted/a"], "")], StoreErrorKind::Protocol),
        (vec![answer("200 OK", "", "<!DOCTYPE html><html></html>")], StoreErrorKind::Protocol),
        (vec![page(&["root/a"], "m"), error("503 Busy", "ServerBusy")], StoreErrorKind::Throttled),
        (vec![error("404 Not Found", "ContainerNotFound")], StoreErrorKind::NoBucket),
    ] {
        let (store, _) = scripted(answers, KEY).await;
        assert_eq!(list(&store).await.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back() {
    let busy = error("503 Server Busy", "ServerBusy").replacen("\r\n", "\r\nretry-after: 7\r\n", 1);
    let (store, _) = scripted(vec![busy], KEY).await;
    let error = store.head(&"k".into()).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (StoreErrorKind::Throttled, Some(std::time::Duration::from_secs(7))));
    assert_eq!(error.class(), manifest::Class::Retryable);
}

#[tokio::test]
async fn an_archived_blob_says_how_to_wake_it() {
    let (store, _) = scripted(vec![error("409 Conflict", "BlobArchived")], KEY).await;
    let error = store.get(&"k".into(), GetOptions::default()).await.map(drop).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Archived);
    assert!(error.to_string().contains("rehydrate") && !error.to_string().contains("RequestId"), "{error}");
}

#[tokio::test]
async fn logins_are_used_and_never_shown() {
    let denied = || answer("403 Forbidden", "x-ms-error-code: AuthenticationFailed\r\n", "");
    for (login, sent) in [
        (("sas_token", "sv=2023&sig=hu%2Bsh%3D"), "sig=hu%2Bsh%3D"),
        (("bearer_token", "hush"), "authorization: bearer hush"),
    ] {
        let (store, seen) = scripted(vec![denied()], login).await;
        let error = store.check_container().await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Credentials);
        assert!(!format!("{error} {error:?} {store:?}").contains("hu"), "{error:?} {store:?}");
        assert!(seen.lock().unwrap()[0].to_lowercase().contains(&sent.to_lowercase()), "{:?}", seen.lock().unwrap());
    }
}

#[tokio::test]
async fn proofs_are_claimed_only_on_evidence() {
    let md5 = crate::store::s3::checksum::md5_base64(b"body");
    for (headers, proof) in [
        (format!("etag: \"0x1\"\r\ncontent-md5: {md5}\r\n"), Some(Proof::Checksum)),
        ("etag: \"0x1\"\r\n".to_owned(), Some(Proof::None)),
        ("etag: \"0x1\"\r\ncontent-md5: AAAA\r\n".to_owned(), Some(Proof::None)),
        (String::new(), None),
    ] {
        let (store, seen) = scripted(vec![answer("201 Created", &headers, "")], KEY).await;
        let options = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
        let written = store.put(&"k".into(), "body".into(), &options).await;
        assert_eq!(written.ok().map(|written| written.proof), proof, "{headers}");
        let seen = seen.lock().unwrap();
        assert!(seen[0].starts_with("PUT /acc/box/root/k HTTP") && seen[0].contains("if-none-match: *"));
        assert!(seen[0].contains(&format!("content-md5: {md5}")) && seen[0].contains("x-ms-blob-type: BlockBlob"));
    }
    let damaged = Payload::from("body").damaged(Bytes::from_static(b"bodi"));
    let (store, seen) = scripted(vec![], KEY).await;
    let error = store.put(&"k".into(), damaged, &PutOptions::default()).await.unwrap_err();
    assert_eq!((error.kind, seen.lock().unwrap().len()), (StoreErrorKind::Corrupt, 0));
}

#[tokio::test]
async fn a_range_or_version_that_was_not_asked_for_is_refused() {
    let part =
        |range: &str, body: &str| answer("206 Partial", &format!("etag: \"0x1\"\r\ncontent-range: {range}\r\n"), body);
    let get = GetOptions { range: Some(2..5), expect: Some(Fingerprint { size_bytes: 10, ..fingerprint("0x1") }) };
    for (answer, kind) in [
        (part("bytes 2-4/10", "234"), None),
        (answer("200 OK", "etag: \"0x1\"\r\n", "0123456789"), Some(StoreErrorKind::Protocol)),
        (part("bytes 3-5/10", "345"), Some(StoreErrorKind::Protocol)),
        (part("bytes 2-3/4", "23"), Some(StoreErrorKind::Precondition)),
        (part("bytes 2-4/10", "234").replace("0x1", "0x2"), Some(StoreErrorKind::Precondition)),
        (error("416 Range", "InvalidRange"), Some(StoreErrorKind::Precondition)),
        (
            part("bytes 2-4/10", "234").replace("etag", "x-ms-meta-hdi_isfolder: true\r\netag"),
            Some(StoreErrorKind::NotFound),
        ),
    ] {
        let (store, _) = scripted(vec![answer], KEY).await;
        assert_eq!(store.get(&"k".into(), get.clone()).await.map(drop).err().map(|error| error.kind), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_waited_for_checked_and_not_left_behind() {
    let started = || answer("202 Accepted", "x-ms-copy-id: c1\r\nx-ms-copy-status: pending\r\netag: \"0x2\"\r\n", "");
    let look = |status: &str, size, id: &str| {
        head(size, &format!("x-ms-copy-id: {id}\r\nx-ms-copy-status: {status}\r\netag: \"0x3\"\r\n"))
    };
    let (expect, from, to) = (fingerprint("0x1"), ObjectKey::from("a b"), ObjectKey::from("to"));
    let copy = async |answers, login| {
        let (store, seen) = scripted(answers, login).await;
        let written = store
            .copy(
                &CopySource { keep_attributes: true, ..CopySource::here(&from, &expect) },
                &to,
                &PutOptions::default(),
            )
            .await;
        let seen = seen.lock().unwrap().clone();
        (written, seen)
    };
    let (written, seen) =
        copy(vec![started(), look("pending", 0, "c1"), look("pending", 0, "c1"), look("success", 4, "c1")], KEY).await;
    assert_eq!(written.unwrap().fingerprint.etag.as_deref(), Some("0x3"));
    assert!(seen[0].contains("/acc/box/root/a%20b\r\n") && seen[0].contains("x-ms-source-if-match: \"0x1\""));
    let (written, seen) = copy(vec![started(), look("success", 4, "c1")], ("sas_token", "sv=1&sig=s%2Bs")).await;
    assert!(written.is_ok() && seen[0].contains("/a%20b?sv=1&sig=s%2Bs\r\n"), "{}", seen[0]);
    for (status, size, id, kind) in
        [("success", 3, "c1", StoreErrorKind::Corrupt), ("success", 4, "c2", StoreErrorKind::Precondition)]
    {
        assert_eq!(copy(vec![started(), look(status, size, id)], KEY).await.0.unwrap_err().kind, kind);
    }
    // Not block blobs: removed again, so that they can be sent as such.
    let appended =
        || head(4, "x-ms-copy-status: success\r\nx-ms-copy-id: c1\r\nx-ms-blob-type: AppendBlob\r\netag: \"0x3\"\r\n");
    let (written, seen) = copy(vec![started(), appended(), answer("202 Accepted", "", "")], KEY).await;
    assert_eq!(written.unwrap_err().kind, StoreErrorKind::Unsupported);
    assert!(seen[2].starts_with("DELETE /acc/box/root/to") && seen[2].contains("if-match: \"0x3\""), "{seen:?}");
    let failed = vec![
        started(),
        look("failed", 0, "c1"),
        error("409 Conflict", "NoPendingCopyOperation"),
        look("failed", 0, "c1"),
        answer("202 Accepted", "", ""),
    ];
    let (written, seen) = copy(failed, KEY).await;
    assert_eq!(written.unwrap_err().kind, StoreErrorKind::Server);
    assert!(seen[4].starts_with("DELETE /acc/box/root/to") && seen[4].contains("if-match: \"0x3\""), "{seen:?}");
}

#[tokio::test]
async fn rule_18_a_completion_whose_answer_was_lost_is_found_by_its_blocks() {
    let upload = UploadId("0123456789abcdef0123456789abcdef".into());
    let spec = PartSpec { number: 1, offset: 0, size_bytes: 4 };
    let part =
        UploadedPart { part: spec, etag: format!("{:016x}", 7), checksum: String::new(), proof: Proof::Checksum };
    let name = |number: u32, crc: u64| {
        use base64::Engine as _;
        let name = format!("{}-{number:05}-{crc:016x}", upload.0);
        let id = base64::engine::general_purpose::STANDARD.encode(name);
        format!("<Block><Name>{id}</Name><Size>4</Size></Block>")
    };
    let blocks = |committed: &str, uncommitted: &str| {
        let body = format!(
            "<BlockList><CommittedBlocks>{committed}</CommittedBlocks><UncommittedBlocks>{uncommitted}</UncommittedBlocks></BlockList>"
        );
        answer("200 OK", "etag: \"0x5\"\r\n", &body)
    };
    let absent = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
    let complete = async |answers, options: &PutOptions| {
        let (store, seen) = scripted(answers, KEY).await;
        let answer = store.complete_upload(&"k".into(), &upload, std::slice::from_ref(&part), options).await;
        let requests = seen.lock().unwrap().len();
        (answer, requests)
    };
    let (written, _) = complete(vec![blocks(&name(1, 7), "")], &absent).await;
    let written = written.unwrap();
    assert_eq!((written.proof, written.fingerprint.etag.as_deref()), (Proof::Checksum, Some("0x5")));
    let another = complete(vec![blocks(&name(1, 8), "")], &absent).await.0;
    assert_eq!(another.unwrap_err().kind, StoreErrorKind::Precondition);
    let another = complete(vec![blocks(&name(1, 8), "")], &PutOptions::default()).await.0;
    assert_eq!(another.unwrap_err().kind, StoreErrorKind::NotFound);
    // The upload lives, but the part it holds has other bytes: nothing is committed.
    let (damaged, requests) = complete(vec![blocks("", &(name(0, 0) + &name(1, 8)))], &absent).await;
    assert_eq!((damaged.unwrap_err().kind, requests), (StoreErrorKind::NotFound, 1));
    let held = || blocks("", &(name(0, 0) + &name(1, 7)));
    let created = answer("201 Created", "etag: \"0x6\"\r\n", "");
    assert!(complete(vec![held(), created], &absent).await.0.is_ok());
    let (refused, _) = complete(vec![held(), error("409 Conflict", "BlobAlreadyExists")], &absent).await;
    assert_eq!(refused.unwrap_err().kind, StoreErrorKind::Precondition);
}

#[tokio::test]
async fn folders_are_not_there_and_deletes_answer_for_every_key() {
    let (store, _) = scripted(vec![head(0, "etag: \"0x1\"\r\nx-ms-meta-hdi_isfolder: true\r\n")], KEY).await;
    assert_eq!(store.head(&"k".into()).await.unwrap_err().kind, StoreErrorKind::NotFound);
    let folder = PutOptions { kind: EntryKind::Folder, ..PutOptions::default() };
    let refused = store.put(&"k".into(), Bytes::new().into(), &folder).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Unsupported);
    let same = || error("403 Forbidden", "AuthorizationPermissionMismatch");
    let (store, _) = scripted(vec![same(), same()], KEY).await;
    let answers = store.delete(&["a".into(), "../up".into(), "b".into()]).await;
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_err().kind).collect();
    assert_eq!(kinds, [StoreErrorKind::Permission, StoreErrorKind::InvalidKey, StoreErrorKind::Permission]);
}

#[tokio::test]
async fn rule_26_a_second_location_tells_its_age_or_nothing_goes_on() {
    let stats = |status: &str, time: &str| {
        let body = format!(
            "<?xml version=\"1.0\"?><StorageServiceStats><GeoReplication><Status>{status}</Status>\
             <LastSyncTime>{time}</LastSyncTime></GeoReplication></StorageServiceStats>"
        );
        answer("200 OK", "", &body)
    };
    let time = "Mon, 01 Jan 2024 00:00:00 GMT";
    let table = [
        (stats("live", time), Ok("2024-01-01T00:00:00Z")),
        (stats("unavailable", ""), Err(StoreErrorKind::Unsupported)),
        (stats("bootstrap", time), Err(StoreErrorKind::Unsupported)),
        (stats("live", "soon"), Err(StoreErrorKind::Unsupported)),
        (error("403 Forbidden", "AuthorizationFailure"), Err(StoreErrorKind::Permission)),
    ];
    for (answer, expected) in table {
        let (store, seen) = scripted_as("acc-secondary", vec![answer], KEY).await;
        let synced = store.synced().await;
        assert!(seen.lock().unwrap()[0].starts_with("GET /acc-secondary/?restype=service&comp=stats HTTP"));
        match (synced, expected) {
            (Ok(time), Ok(expected)) => assert_eq!(time.unwrap().to_string(), expected),
            (Err(error), Err(kind)) => assert_eq!(error.kind, kind, "{error}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }
    let (first, _) = scripted(Vec::new(), KEY).await;
    assert_eq!(first.synced().await.unwrap(), None);
    let (store, seen) = scripted_as("acc-secondary", vec![head(4, "etag: \"0x1\"\r\n")], KEY).await;
    store.head(&"a b".into()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("HEAD /acc-secondary/box/root/a%20b HTTP") && seen[0].contains("SharedKey acc:"));
}

/// Copies between accounts: the service reads the source by a signature of the source's key, and the answer comes after.
#[tokio::test]
async fn a_copy_from_another_account_is_signed_by_its_key() {
    let (source, _) = scripted_as("acc", Vec::new(), KEY).await;
    let origin = source.origin().unwrap();
    let (key, expect, to) = (ObjectKey::from("a b"), fingerprint("0x1"), ObjectKey::from("to"));
    let from = CopySource { origin: Some(&origin), key: &key, expect: &expect, keep_attributes: true };
    // Each scripted server is a service of its own.
    let (other, _) = scripted(Vec::new(), KEY).await;
    assert_eq!(other.copies_from(&origin), None);
    let refused = other.copy(&from, &to, &PutOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Unsupported);
    // Parts need a signature within one account, too.
    let placed = answer("201 Created", "", "");
    let (store, seen) = scripted(vec![placed], KEY).await;
    let upload = UploadId("0123456789abcdef0123456789abcdef".into());
    let part = PartSpec { number: 1, offset: 2, size_bytes: 2 };
    store.copy_part(&CopySource::here(&key, &expect), &to, &upload, part).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("x-ms-source-range: bytes=2-3") && seen[0].contains("x-ms-source-if-match: \"0x1\""));
    assert!(seen[0].contains("/a%20b?sv=") && seen[0].contains("&sp=r&") && seen[0].contains("sig="), "{}", seen[0]);
}
