//! The client against servers that are no metastore, hang up, or say nothing; and versions of what they know.

use super::*;
use crate::metastore::Error;
use hms::message::{Call, encode_call};
use hms::wire::Wire as _;
use manifest::Class;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

fn options() -> Options {
    Options {
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_millis(300),
        connections: 1,
        ..Options::default()
    }
}

/// A server that does `speak` with every connection, told its number; its URL.
async fn server<F>(speak: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static) -> (String, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("thrift://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(number, stream));
            number += 1;
        }
    });
    (url, task)
}

/// The name and the sequence number of the next call, which is not framed; `None` at the end of the connection.
async fn next_call(stream: &mut TcpStream) -> Option<(String, i32)> {
    let mut bytes = Vec::new();
    let mut scanner = hms::scan::Scanner::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        match scanner.advance(&bytes) {
            Ok(Some(end)) => break end,
            Ok(None) => {}
            Err(_) => return None,
        }
    };
    let mut r = hms::wire::Reader::new(&bytes[..end]);
    r.word().ok()?;
    let name = r.text().ok()?.to_owned();
    Some((name, i32::read(&mut r).ok()?))
}

fn message(kind: u8, name: &str, sequence: i32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 1, 0, kind];
    name.to_owned().write(&mut out);
    sequence.write(&mut out);
    out.extend_from_slice(body);
    out
}

/// Answers as a server of 3.1 that has one database.
fn answer(name: &str, sequence: i32) -> Vec<u8> {
    let unknown = [vec![8, 0, 2], 1_i32.to_be_bytes().to_vec(), vec![0]].concat();
    match name {
        "getVersion" => {
            message(2, name, sequence, &[vec![11, 0, 0], hms::wire::to_bytes(&"3.1.3".to_owned()), vec![0]].concat())
        }
        "get_database_req" => message(3, name, sequence, &unknown),
        "get_all_tables" => {
            message(2, name, sequence, &[vec![15, 0, 0], hms::wire::to_bytes(&vec!["t".to_owned()]), vec![0]].concat())
        }
        _ => message(2, name, sequence, &[0]),
    }
}

async fn serve(mut stream: TcpStream, calls: usize) {
    for _ in 0..calls {
        let Some((name, sequence)) = next_call(&mut stream).await else { return };
        if stream.write_all(&answer(&name, sequence)).await.is_err() {
            return;
        }
    }
}

async fn error(url: &str, options: Options) -> Error {
    ThriftMetastore::open(url, options).await.unwrap_err()
}

/// Says these bytes to whatever it hears, and stays.
async fn says(bytes: &'static [u8]) -> (String, JoinHandle<()>) {
    server(move |_, mut stream| async move {
        let mut heard = [0; 64];
        let _any = stream.read(&mut heard).await;
        let _any = stream.write_all(bytes).await;
        let _until_closed = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_named() {
    let cases: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"\x04\x00\x00\x00\x13Invalid status -128", "SASL"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "TLS"),
        (b"\x00\x00\x00\x30\x80\x01\x00\x02\x00\x00", "framed"),
    ];
    for (bytes, speaks) in cases {
        let (url, server) = says(bytes).await;
        let error = error(&url, options()).await;
        assert!(matches!(error, Error::Protocol { .. }) && error.to_string().contains(speaks), "{speaks}: {error}");
        server.abort();
    }
}

#[tokio::test]
async fn frames_that_only_one_side_uses_are_named() {
    // A server without frames takes a frame's length for the length of a name, and waits for more.
    let (url, server) = server(|_, mut stream| async move {
        let mut first = [0; 4];
        if stream.read_exact(&mut first).await.is_ok() && first == [0x80, 1, 0, 1] {
            // The probe's call, whose beginning was read.
            let mut rest = vec![0; encode_call(&hms::calls::GetVersion {}, 1).len() - 4];
            let _any = stream.read_exact(&mut rest).await;
            let _any = stream.write_all(&answer("getVersion", 1)).await;
        }
        let _until_closed = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let found = error(&url, Options { framed: true, ..options() }).await;
    assert!(matches!(found, Error::Protocol { .. }), "{found}");
    assert!(found.to_string().contains("without frames"), "{found}");
    server.abort();
}

#[tokio::test]
async fn a_server_that_hangs_up_on_what_is_no_frame_is_named() {
    let (url, server) = server(|_, mut stream| async move {
        let mut length = [0; 4];
        while stream.read_exact(&mut length).await.is_ok() {
            let length = u32::from_be_bytes(length);
            if length > 1 << 20 {
                return;
            }
            let mut call = vec![0; length as usize];
            if stream.read_exact(&mut call).await.is_err() {
                return;
            }
            let reply = answer("getVersion", 1);
            let framed = [u32::try_from(reply.len()).unwrap().to_be_bytes().to_vec(), reply].concat();
            let _any = stream.write_all(&framed).await;
        }
    })
    .await;
    let found = error(&url, options()).await;
    assert!(found.to_string().contains("speaks framed Thrift"), "{found}");
    server.abort();
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let (url, server) = server(|_, stream| serve(stream, 9)).await;
    let tls = Some(Tls { authorities: None });
    let found = error(&url, Options { tls, ..options() }).await;
    assert!(found.to_string().contains("Thrift without TLS"), "{found}");
    server.abort();
}

#[tokio::test]
async fn nobody_who_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("thrift://{}", listener.local_addr().unwrap());
    drop(listener);
    let found = error(&url, options()).await;
    assert!(matches!(&found, Error::Unreachable { why, .. } if why.contains("refused")), "{found}");
}

#[tokio::test]
async fn a_half_open_connection_ends_with_an_error() {
    let (url, server) = server(|_, stream| async move {
        let mut stream = stream;
        serve_until_silent(&mut stream).await;
    })
    .await;
    let metastore = ThriftMetastore::open(&url, options()).await.unwrap();
    let snapshot = metastore.snapshot().await.unwrap();
    let found = snapshot.table_names(&crate::model::DatabaseName::new("d")).await.unwrap_err();
    assert!(matches!(found, Error::Silent { .. }), "{found}");
    server.abort();
}

/// Answers what the version is found by, and then nothing more, but stays.
async fn serve_until_silent(stream: &mut TcpStream) {
    while let Some((name, sequence)) = next_call(stream).await {
        if name != "get_all_tables" && stream.write_all(&answer(&name, sequence)).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_lost_connection_is_opened_again_for_a_call_that_only_reads() {
    // Each connection answers three calls and hangs up: the version alone takes five.
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let (url, server) = server(move |_, stream| {
        count.fetch_add(1, Ordering::Relaxed);
        serve(stream, 3)
    })
    .await;
    let metastore = ThriftMetastore::open(&url, options()).await.unwrap();
    assert_eq!(metastore.version(), Version::V3_1);
    let snapshot = metastore.snapshot().await.unwrap();
    let database = crate::model::DatabaseName::new("d");
    for _ in 0..7 {
        assert_eq!(snapshot.table_names(&database).await.unwrap(), ["t"]);
    }
    assert!(connections.load(Ordering::Relaxed) >= 4);
    server.abort();
}

#[tokio::test]
async fn the_next_host_takes_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let (url, server) = server(|_, stream| serve(stream, usize::MAX)).await;
    let both = format!("thrift://{gone},{}", url.trim_start_matches("thrift://"));
    let metastore = ThriftMetastore::open(&both, options()).await.unwrap();
    assert_eq!(metastore.version(), Version::V3_1);
    server.abort();
}

#[tokio::test]
async fn a_caller_who_is_no_proxy_user_is_told_which_setting_mends_it() {
    let (url, server) = server(|_, mut stream| async move {
        while let Some((name, sequence)) = next_call(&mut stream).await {
            let text = hms::wire::to_bytes(&format!("Internal error processing {name}"));
            let refused = [vec![11, 0, 1], text, vec![8, 0, 2, 0, 0, 0, 6, 0]].concat();
            let reply = match name == hms::calls::GetCurrentNotificationEventId::NAME {
                true => message(3, &name, sequence, &refused),
                false => answer(&name, sequence),
            };
            if stream.write_all(&reply).await.is_err() {
                return;
            }
        }
    })
    .await;
    let metastore = ThriftMetastore::open(&url, options()).await.unwrap();
    let found = metastore.snapshot().await.unwrap().current_event_id().await.unwrap_err();
    let text = found.to_string();
    assert!(matches!(found, Error::Denied { .. }) && text.contains("hadoop.proxyuser.<user>.hosts"), "{text}");
    assert!(text.contains("metastore.metastore.event.db.notification.api.auth"), "{text}");
    server.abort();
}

#[tokio::test]
async fn replies_without_sense_are_errors() {
    for bytes in [
        &b"\x80\x01\x00\x02\x00\x00\x00\x0agetVersion\x00\x00\x00\x09\x00"[..],
        b"\x80\x01\x00\x02\xff\xff\xff\xff",
        b"\x80\x01\x00\x02\x00\x00\x00\x0agetVersion\x00\x00\x00\x01\x0f\x00\x00\x0c\x7f\xff\xff\xff\x09",
    ] {
        let (url, server) = says(bytes).await;
        let found = error(&url, options()).await;
        assert!(matches!(found, Error::Failed { .. }), "{found}");
        server.abort();
    }
}

fn meta(name: &str, sequence: i32, why: &str) -> Vec<u8> {
    message(2, name, sequence, &[vec![12, 0, 1, 11, 0, 1], hms::wire::to_bytes(&why.to_owned()), vec![0, 0]].concat())
}

fn internal(name: &str, sequence: i32, why: &str) -> Vec<u8> {
    let text = hms::wire::to_bytes(&why.to_owned());
    message(3, name, sequence, &[vec![11, 0, 1], text, vec![8, 0, 2, 0, 0, 0, 6, 0]].concat())
}

/// A server that fails so many lists of tables before it answers, and how often it was asked for one.
async fn disturbed(
    times: usize,
    failed: fn(&str, i32, &str) -> Vec<u8>,
    why: &'static str,
) -> (Result<Vec<String>, Error>, usize) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (url, server) = server(move |_, mut stream| {
        let count = Arc::clone(&count);
        async move {
            while let Some((name, sequence)) = next_call(&mut stream).await {
                let throws = name == "get_all_tables" && count.fetch_add(1, Ordering::Relaxed) < times;
                let reply = if throws { failed(&name, sequence, why) } else { answer(&name, sequence) };
                if stream.write_all(&reply).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let metastore = ThriftMetastore::open(&url, options()).await.unwrap();
    let names = metastore.snapshot().await.unwrap().table_names(&crate::model::DatabaseName::new("d")).await;
    server.abort();
    (names, asked.load(Ordering::Relaxed))
}

#[tokio::test]
async fn rule_24_a_call_that_reads_what_somebody_drops_at_that_moment_is_made_again() {
    let (vanished, deadlock) = ("No such database row", "Deadlock found when trying to get lock");
    let (thrown, refused) = (meta as fn(&str, i32, &str) -> Vec<u8>, internal as fn(&str, i32, &str) -> Vec<u8>);
    let (passed, lost, locked, passed_too, broken) = tokio::join!(
        disturbed(3, thrown, vanished),
        disturbed(4, thrown, vanished),
        disturbed(4, thrown, deadlock),
        disturbed(3, refused, "Internal error"),
        disturbed(4, refused, "Internal error")
    );
    for (found, asked) in [passed, passed_too] {
        assert_eq!((found.unwrap(), asked), (vec!["t".to_owned()], 4));
    }
    for (found, asked, class, why) in [
        (lost.0, lost.1, (4, Class::Permanent), vanished),
        (locked.0, locked.1, (4, Class::Retryable), deadlock),
        (broken.0, broken.1, (4, Class::Permanent), "Internal error"),
    ] {
        let error = found.unwrap_err();
        assert_eq!((asked, error.class()), class, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}
