//! SQL scripts sent to the test servers, for making and dropping databases: the least client that can do it. xtask uses
//! this file too.
//!
//! PostgreSQL's protocol is spoken here, without a password and without TLS; for MariaDB its own client is run. It is not for
//! what is tested.

use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long connecting, and each answer, may take: a schema is one answer.
const LIMIT: Duration = Duration::from_secs(120);
/// The longest message that is read: ours are a few bytes.
const MAX_MESSAGE: usize = 1 << 24;
/// Version 3.0 of PostgreSQL's protocol.
const PROTOCOL: i32 = 196_608;

/// Runs a script, several statements as one transaction, as PostgreSQL's superuser `postgres`. Answers with the rows, their
/// values as text.
///
/// # Errors
/// What the server says, or that it cannot be reached.
pub fn postgres(port: u16, database: &str, script: &str) -> Result<Vec<Vec<Option<String>>>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut hello = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", "postgres", "database", database, ""] {
        hello.extend_from_slice(text.as_bytes());
        hello.push(0);
    }
    send(&mut stream, None, &hello)?;
    until_ready(&mut stream)?;
    send(&mut stream, Some(b'Q'), &[script.as_bytes(), b"\0"].concat())?;
    until_ready(&mut stream)
}

/// Runs a script in a database, or in none, as MariaDB's `root`, by the client that came with the server. Answers with what it
/// printed: rows as lines, values between tabs.
///
/// # Errors
/// What the client says, or that it cannot be run.
pub fn mariadb(client: &Path, port: u16, database: Option<&str>, script: &str) -> Result<String> {
    let mut command = Command::new(client);
    command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root", "--batch"]);
    command
        .args(["--skip-column-names", "--connect-timeout=30", "--disable-ssl", &format!("--port={port}")])
        .args(database);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().ok_or_else(|| Error::other("no pipe"))?;
    // It reads all before it says more than a pipe holds.
    let written = input.write_all(script.as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    written?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn send(stream: &mut TcpStream, kind: Option<u8>, body: &[u8]) -> Result<()> {
    let length = i32::try_from(body.len() + 4).map_err(Error::other)?;
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(body);
    stream.write_all(&message)
}

/// Reads until the server waits for the next query.
fn until_ready(stream: &mut TcpStream) -> Result<Vec<Vec<Option<String>>>> {
    let (mut rows, mut failed) = (Vec::new(), None);
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).map_err(|gone| failed.take().unwrap_or(gone))?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
        if !(4..=MAX_MESSAGE).contains(&length) {
            return Err(Error::other(format!("a message of {length} bytes")));
        }
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body)?;
        match kind {
            b'R' if body != [0; 4] => return Err(Error::other("it wants a password")),
            b'E' => failed = Some(Error::other(error_text(&body))),
            b'D' => rows.push(row(&body).ok_or_else(|| Error::other("a row is cut short"))?),
            b'Z' => return failed.map_or(Ok(rows), Err),
            _ => (),
        }
    }
}

/// The fields of an error that a person reads: the code, the message, the place in the script.
fn error_text(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0).filter_map(|field| field.split_first());
    let shown = fields.filter(|(kind, _)| b"CMP".contains(kind));
    shown.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>().join(" ")
}

fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk()?;
        rest = after;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            values.push(None);
            continue;
        };
        let (value, after) = rest.split_at_checked(length)?;
        values.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(values)
}
