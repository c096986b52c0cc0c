//! The real services and tools that `cargo xtask` installs, as the tests see them.
//!
//! Where they are comes from the environment that `cargo xtask test` sets, else from the file that `cargo xtask services
//! up` writes. A test that needs what is neither there nor known to be impossible here fails; it is never silently green.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long an answer to a plain request may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Where a running S3 server is.
#[derive(Clone, Debug)]
pub struct S3 {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    /// Any region is accepted; requests are signed for this one.
    pub region: &'static str,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// A bucket that all tests share: each works below a prefix of its own.
    pub bucket: String,
    folder: PathBuf,
}

impl S3 {
    /// Removes a bucket with all that is in it, to have its space back.
    ///
    /// # Panics
    /// If it cannot be removed.
    pub fn remove_bucket(&self, bucket: &str) {
        std::fs::remove_dir_all(self.folder.join(bucket)).expect("the bucket is a folder of the server");
    }

    /// Makes a bucket of the test's own, named `<purpose>-<pid>-<number>`, and returns the name. It goes when the server is
    /// taken down. `purpose` is lower case letters, digits and dashes.
    ///
    /// # Panics
    /// If the server's folder cannot be written.
    pub fn fresh_bucket(&self, purpose: &str) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{purpose}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        // To this server a folder is a bucket.
        std::fs::create_dir(self.folder.join(&name)).expect("a new bucket");
        name
    }

    /// The file in which the server keeps an object, for tests that play a server which forgets or damages one.
    pub fn file_of(&self, bucket: &str, key: &str) -> PathBuf {
        self.folder.join(bucket).join(key)
    }
}

/// Where a running S3Mock is: an S3 server that keeps every key as it is, and checks no signature.
#[derive(Clone, Debug)]
pub struct S3Mock {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    /// A bucket that all tests share: each works below a prefix of its own.
    pub bucket: String,
}

impl S3Mock {
    /// Makes a bucket of the test's own, named `<purpose>-<pid>-<number>`, and returns the name. It goes when the server is
    /// taken down. `purpose` is lower case letters, digits and dashes.
    ///
    /// # Panics
    /// If the server does not make it.
    pub fn fresh_bucket(&self, purpose: &str) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        // The server outlives a test run, and process ids come again.
        let unique: u32 = rand::random();
        let name = format!("{purpose}-{unique:x}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let (status, answer) = self.send("PUT", &format!("/{name}"), "");
        assert_eq!(status, 200, "the bucket {name} is made: {answer}");
        name
    }

    /// Sends a request whose target reaches the server as it is written, dot segments and all: HTTP clients change them.
    /// Answers with status and body.
    ///
    /// # Panics
    /// If no answer comes.
    pub fn send(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let address = self.endpoint.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).expect("S3Mock listens");
        stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("a limit");
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        let head = format!("{method} {target} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// The keys of a bucket as an independent client sees them, sorted by bytes. At most 1,000.
    ///
    /// # Panics
    /// If the server does not list them all.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let (status, page) = self.send("GET", &format!("/{bucket}?list-type=2&encoding-type=url"), "");
        assert!(status == 200 && page.contains("<IsTruncated>false<"), "{status} {page}");
        let keys = page.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        let decoded =
            keys.map(|key| percent_encoding::percent_decode_str(key).decode_utf8().expect("UTF-8").into_owned());
        let mut keys: Vec<String> = decoded.collect();
        keys.sort();
        keys
    }
}

/// Where a running Azure Blob server is.
#[derive(Clone, Debug)]
pub struct Azure {
    /// `http://127.0.0.1:PORT/ACCOUNT`
    pub endpoint: String,
    /// The storage account.
    pub account: String,
    /// Its key.
    pub key: String,
}

impl Azure {
    /// Makes a container of the test's own, named `<purpose>-<pid>-<number>`, and returns the name. It goes when the server
    /// is taken down. `purpose` is lower case letters, digits and dashes.
    ///
    /// # Panics
    /// If the server does not make it.
    pub fn fresh_container(&self, purpose: &str) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{purpose}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (server, container) = (self.clone(), name.clone());
        // A thread of its own: the caller may be inside a runtime, or not.
        let made = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(server.send(http::Method::PUT, &format!("{container}?restype=container"), &[], ""))
        });
        let status = made.join().expect("the request is made");
        assert_eq!(status, 201, "the container {name} is made");
        name
    }

    /// Sends one signed request below the account, as an independent client would; answers with the status. `path` is
    /// encoded already.
    ///
    /// # Panics
    /// If no answer comes.
    pub async fn send(
        &self,
        method: http::Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &'static str,
    ) -> u16 {
        use object_store::client::{HttpConnector as _, HttpRequest, HttpRequestBody, ReqwestConnector};
        let options = object_store::ClientOptions::new().with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options).expect("a client");
        let key = object_store::azure::AzureAccessKey::try_new(&self.key).expect("the key is base64");
        let mut request = http::Request::builder().method(method).uri(format!("{}/{path}", self.endpoint));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-length", body.len().to_string());
        let mut request: HttpRequest = request.body(HttpRequestBody::from(body.to_owned())).expect("a request");
        object_store::azure::AzureAuthorizer::new(&object_store::azure::AzureCredential::AccessKey(key), &self.account)
            .try_authorize(&mut request)
            .expect("it is signed");
        client.execute(request).await.expect("an answer").status().as_u16()
    }
}

/// Tools that we did not write, to judge what we wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// rclone 1.75
    Rclone,
    /// The AWS command line
    Aws,
    /// The reference BLAKE3
    B3sum,
    /// The S3 server's program, for tests that run their own
    VersityGw,
}

impl Tool {
    /// The service's name for `cargo xtask services`, and the variable that holds the program's path.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Rclone => ("rclone", "UNDERSTUDY_TEST_RCLONE"),
            Self::Aws => ("awscli", "UNDERSTUDY_TEST_AWS"),
            Self::B3sum => ("b3sum", "UNDERSTUDY_TEST_B3SUM"),
            Self::VersityGw => ("versitygw", "UNDERSTUDY_TEST_VERSITYGW"),
        }
    }
}

/// The S3 server; `None` if it cannot be had on this machine, and then the test has been recorded as skipped:
/// `let Some(s3) = services::s3() else { return };`
///
/// # Panics
/// If it could be had but does not run: the message says what to type.
pub fn s3() -> Option<S3> {
    if skipped("versitygw") {
        return None;
    }
    Some(S3 {
        endpoint: variable("versitygw", "UNDERSTUDY_TEST_S3_ENDPOINT"),
        region: "us-east-1",
        access_key: variable("versitygw", "UNDERSTUDY_TEST_S3_ACCESS_KEY"),
        secret_key: variable("versitygw", "UNDERSTUDY_TEST_S3_SECRET_KEY"),
        bucket: variable("versitygw", "UNDERSTUDY_TEST_S3_BUCKET"),
        folder: PathBuf::from(variable("versitygw", "UNDERSTUDY_TEST_S3_FOLDER")),
    })
}

/// `host:port` of the NameNode; `None` as for [`s3`]. Its superuser is whoever runs the tests.
///
/// # Panics
/// As [`s3`].
pub fn hdfs() -> Option<String> {
    if skipped("hdfs") { None } else { Some(variable("hdfs", "UNDERSTUDY_TEST_HDFS_NAMENODE")) }
}

/// The S3 server that keeps odd keys; `None` as for [`s3`].
///
/// # Panics
/// As [`s3`].
pub fn s3mock() -> Option<S3Mock> {
    if skipped("s3mock") {
        return None;
    }
    Some(S3Mock {
        endpoint: variable("s3mock", "UNDERSTUDY_TEST_S3MOCK_ENDPOINT"),
        bucket: variable("s3mock", "UNDERSTUDY_TEST_S3MOCK_BUCKET"),
    })
}

/// The Azure Blob server; `None` as for [`s3`].
///
/// # Panics
/// As [`s3`].
pub fn azure() -> Option<Azure> {
    if skipped("azurite") {
        return None;
    }
    Some(Azure {
        endpoint: variable("azurite", "UNDERSTUDY_TEST_AZURE_ENDPOINT"),
        account: variable("azurite", "UNDERSTUDY_TEST_AZURE_ACCOUNT"),
        key: variable("azurite", "UNDERSTUDY_TEST_AZURE_KEY"),
    })
}

/// Another account of the same server.
///
/// # Panics
/// As [`s3`].
pub fn azure_other() -> Option<Azure> {
    if skipped("azurite") {
        return None;
    }
    Some(Azure {
        endpoint: variable("azurite", "UNDERSTUDY_TEST_AZURE_OTHER_ENDPOINT"),
        account: variable("azurite", "UNDERSTUDY_TEST_AZURE_OTHER_ACCOUNT"),
        key: variable("azurite", "UNDERSTUDY_TEST_AZURE_OTHER_KEY"),
    })
}

/// A tool's program; `None` as for [`s3`].
///
/// # Panics
/// As [`s3`].
pub fn tool(tool: Tool) -> Option<PathBuf> {
    let (service, name) = tool.names();
    if skipped(service) { None } else { Some(PathBuf::from(variable(service, name))) }
}

/// The `distcp` binary under test.
///
/// # Panics
/// If it has not been built.
pub fn distcp_bin() -> PathBuf {
    let built = std::env::var_os("UNDERSTUDY_TEST_BIN_DISTCP").map(PathBuf::from);
    let path = built.unwrap_or_else(|| target().join("debug/distcp"));
    assert!(path.is_file(), "{} is missing: run `cargo build --bins`", path.display());
    path
}

/// The `metasync` binary that was built with the tests.
///
/// # Panics
/// If it was not built.
pub fn metasync_bin() -> PathBuf {
    let built = std::env::var_os("UNDERSTUDY_TEST_BIN_METASYNC").map(PathBuf::from);
    let path = built.unwrap_or_else(|| target().join("debug/metasync"));
    assert!(path.is_file(), "{} is missing: run `cargo build --bins`", path.display());
    path
}

/// Whether tests that take minutes are asked for (`cargo xtask test --long`).
pub fn long() -> bool {
    std::env::var_os("UNDERSTUDY_TEST_LONG").is_some()
}

/// Records the running test if this machine cannot have the service.
pub(crate) fn skipped(service: &str) -> bool {
    let names = std::env::var("UNDERSTUDY_TEST_SKIP").unwrap_or_default();
    if !names.split(',').any(|name| name == service) {
        return false;
    }
    let thread = std::thread::current();
    let line = format!("{} needs {service}\n", thread.name().unwrap_or("a test"));
    let path =
        std::env::var_os("UNDERSTUDY_TEST_SKIPPED_FILE").expect("UNDERSTUDY_TEST_SKIPPED_FILE is set with _SKIP");
    // One short write in append mode: lines of tests that run at once do not mix.
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the skipped test is recorded");
    true
}

pub(crate) fn variable(service: &str, name: &str) -> String {
    let value = std::env::var(name).ok().or_else(|| in_env_file(name));
    value.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask services up {service}`, or `cargo xtask test`"))
}

/// A value from `target/services/env`, whose lines are `KEY=value` with quotes where a shell needs them.
fn in_env_file(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(target().join("services/env")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('\'').replace("'\\''", "'"))
}

fn target() -> PathBuf {
    let ours = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(ours, PathBuf::from)
}
