//! Opening a bucket from options whose names are object_store's.
//!
//! Reads no environment and no file: what is not in the options is not known, except that object_store's providers read the
//! file that `application_credentials` names, and without any login gcloud's default credentials in the home folder, else
//! they ask the machine's metadata server when the first request is sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use manifest::ObjectKey;
use object_store::client::{ClientConfigKey, HttpConnector as _, ReqwestConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use serde::Deserialize;

use super::client::Client;
use super::{DELETE_BATCH, GcsStore, MAX_OBJECT_BYTES};
use crate::store::Capabilities;
use crate::store::wire::{cut, header_value};

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the service answers unless told otherwise.
const SERVICE: &str = "https://storage.googleapis.com";

/// What a bucket is opened with.
#[derive(Default)]
pub struct GcsConfig {
    /// Name of the bucket.
    pub bucket: String,
    /// Full name below which the store's keys lie, without slashes at its ends being added or taken; empty for all.
    pub prefix: ObjectKey,
    /// Options by object_store's names (with or without `google_`), among them the credentials. Also `storage_class` and
    /// `kms_key_name`, the class and the Cloud KMS key of what is written.
    pub options: BTreeMap<String, String>,
    /// What an error says when no credentials could be had: where they were looked for.
    pub credentials_hint: String,
}

impl std::fmt::Debug for GcsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.options.keys().collect();
        f.debug_struct("GcsConfig")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("options", &names)
            .finish_non_exhaustive()
    }
}

/// Options with which no bucket can be opened. Names the option, never a secret's value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadGcsConfig(pub String);

fn bad<T>(why: impl Into<String>) -> Result<T, BadGcsConfig> {
    Err(BadGcsConfig(why.into()))
}

/// Whether a name is an option of these stores: object_store's, but for the bucket, and two of our own.
pub(crate) fn is_option(name: &str) -> bool {
    matches!(name, "storage_class" | "kms_key_name")
        || name.parse::<GoogleConfigKey>().is_ok_and(|key| key != GoogleConfigKey::Bucket)
}

/// What of a service account's key says where requests go.
#[derive(Deserialize)]
struct Key {
    #[serde(default)]
    gcs_base_url: Option<String>,
}

/// Where requests go: what the options say, else the key of the service account, else Google.
pub(crate) fn base_url(named: Option<&str>, service_account_key: Option<&str>) -> Result<String, BadGcsConfig> {
    let of_key = service_account_key.and_then(|key| serde_json::from_str::<Key>(key).ok()?.gcs_base_url);
    let url = named.map(str::to_owned).or(of_key).unwrap_or_else(|| SERVICE.to_owned());
    let url = url.trim().trim_end_matches('/');
    let uri: http::Uri =
        url.parse().map_err(|_| BadGcsConfig(format!("base_url is no http(s) URL: {:?}", cut(url))))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(_), Some(authority)) if authority.as_str().contains('@') => {
            bad("base_url holds a user name or password: credentials go elsewhere")
        }
        (Some("http" | "https"), Some(_)) if uri.query().is_none() && uri.path().trim_matches('/').is_empty() => {
            Ok(url.to_owned())
        }
        _ => bad(format!("base_url is no http(s) URL of a service: {:?}", cut(url))),
    }
}

impl GcsStore {
    /// Opens a bucket below a prefix. Sends nothing.
    pub fn open(config: GcsConfig) -> Result<Self, BadGcsConfig> {
        let GcsConfig { bucket, prefix, options, credentials_hint } = config;
        if prefix.as_str().is_none() {
            return bad("the prefix is not UTF-8");
        }
        let mut write_headers = HeaderMap::new();
        let mut kms_key = None;
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(&bucket).with_retry(login_retries());
        let mut client_options = ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT_TIMEOUT);
        for (name, value) in options {
            if !is_option(&name) {
                return bad(format!("{name:?} is no option of a store on Google Cloud Storage"));
            }
            if matches!(name.as_str(), "storage_class" | "kms_key_name") {
                let text = header_value(&value)
                    .filter(|value| value.to_str().is_ok())
                    .ok_or_else(|| BadGcsConfig(format!("the value of {name} fits into no header")))?;
                match name.as_str() {
                    "storage_class" => drop(write_headers.insert("x-goog-storage-class", text)),
                    _ => kms_key = Some(value),
                }
                continue;
            }
            let key: GoogleConfigKey = name
                .parse()
                .map_err(|_| BadGcsConfig(format!("{name:?} is no option of a store on Google Cloud Storage")))?;
            match key {
                // Else what it says of the service and of logins would be known to object_store only.
                GoogleConfigKey::ServiceAccount => {
                    return bad("service_account names a file: its text goes into service_account_key");
                }
                GoogleConfigKey::Client(key) => {
                    client_options = client_options.with_config(key, value.clone());
                    builder = builder.with_config(GoogleConfigKey::Client(key), value.clone());
                }
                GoogleConfigKey::BaseUrl | GoogleConfigKey::SkipSignature => {}
                key => builder = builder.with_config(key, value.clone()),
            }
            known.insert(key.as_ref().to_owned(), value);
        }
        let text = |key: GoogleConfigKey| known.get(key.as_ref()).map(String::as_str);
        let flag = |key: GoogleConfigKey| match text(key).map(|text| text.trim().to_ascii_lowercase()).as_deref() {
            None | Some("false" | "0" | "no" | "off" | "n") => Ok(false),
            Some("true" | "1" | "yes" | "on" | "y") => Ok(true),
            Some(other) => bad(format!("{} is true or false, not {other:?}", key.as_ref())),
        };
        let base_url = base_url(text(GoogleConfigKey::BaseUrl), text(GoogleConfigKey::ServiceAccountKey))?;
        if base_url.starts_with("http://") {
            let allow = GoogleConfigKey::Client(ClientConfigKey::AllowHttp);
            if text(allow).is_some() && !flag(allow)? {
                return bad("base_url is http://, which allow_http = false forbids");
            }
            client_options = client_options.with_allow_http(true);
        }
        let http = ReqwestConnector::default().connect(&client_options).map_err(|error| unfit(&known, &error))?;
        let credentials = match flag(GoogleConfigKey::SkipSignature)? {
            true => None,
            false => {
                // Bucket and URL are ours; the builder is asked for its credential provider only. Its error may show what
                // a key file holds, so it is not shown.
                let built = builder.build().map_err(|_| unreadable(&known))?;
                Some(built.credentials().clone())
            }
        };
        let place: Arc<str> = match prefix.is_empty() {
            true => format!("gs://{bucket}").into(),
            false => format!("gs://{bucket}/{}", prefix.escaped()).into(),
        };
        let client = Client { http, credentials, base_url, bucket, credentials_hint, place };
        Ok(GcsStore { client: Arc::new(client), prefix, capabilities: capabilities(), write_headers, kms_key })
    }
}

/// The error of a login that cannot be used. It says which option holds it, nothing of what that holds.
fn unreadable(known: &BTreeMap<String, String>) -> BadGcsConfig {
    let has = |key: GoogleConfigKey| known.contains_key(key.as_ref());
    BadGcsConfig(match () {
        () if has(GoogleConfigKey::ServiceAccountKey) => {
            "service_account_key is no usable key of a service account: JSON with client_email, private_key and \
             private_key_id"
                .to_owned()
        }
        () if has(GoogleConfigKey::ApplicationCredentials) => {
            "the file of application_credentials cannot be read, or is neither a user's login nor a service account's key"
                .to_owned()
        }
        () => "gcloud's default credentials in the home folder are neither a user's login nor a service account's key"
            .to_owned(),
    })
}

/// The error of a client that cannot be made. object_store does not say by which option: each is tried alone.
fn unfit(known: &BTreeMap<String, String>, error: &object_store::Error) -> BadGcsConfig {
    let spoils = |(name, value): &(&String, &String)| match name.parse() {
        Ok(GoogleConfigKey::Client(key)) => {
            ReqwestConnector::default().connect(&ClientOptions::new().with_config(key, value.as_str())).is_err()
        }
        _ => false,
    };
    let why = cut(&error.to_string());
    match known.iter().find(spoils) {
        Some((name, _)) => BadGcsConfig(format!("the option {name} has a value that cannot be used ({why})")),
        None => BadGcsConfig(why),
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        name: "gcs",
        ordered_list: true,
        start_after: true,
        levels: false,
        list_goes_on: false,
        folders: false,
        conditional_create: true,
        conditional_replace: true,
        conditional_read: true,
        server_copy: true,
        max_copy_bytes: MAX_OBJECT_BYTES,
        lists_parts: true,
        etags: true,
        attributes: true,
        delete_batch: DELETE_BATCH,
        max_put_bytes: MAX_OBJECT_BYTES,
        time_step_ns: 1,
    }
}

/// Few and quick: the token and metadata services answer at once or are not there.
fn login_retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(options: &[(&str, &str)]) -> Result<GcsStore, BadGcsConfig> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        GcsStore::open(GcsConfig { bucket: "lake".into(), options, ..GcsConfig::default() })
    }

    #[test]
    fn requests_go_where_the_options_or_the_key_say() {
        let key = r#"{"gcs_base_url": "http://127.0.0.1:9/", "private_key": "hush"}"#;
        let table = [
            (None, None, Ok(SERVICE)),
            (Some("https://eu.example/"), Some(key), Ok("https://eu.example")),
            (None, Some(key), Ok("http://127.0.0.1:9")),
            (None, Some("{}"), Ok(SERVICE)),
            (Some("https://u:p@h"), None, Err("credentials")),
            (Some("ftp://h"), None, Err("no http(s) URL")),
            (Some("https://h/path"), None, Err("no http(s) URL")),
            (Some("h"), None, Err("no http(s) URL")),
        ];
        for (named, key, expected) in table {
            match (base_url(named, key), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url, expected),
                (Err(error), Err(word)) => assert!(error.0.contains(word), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn options_that_do_not_fit_are_named_and_secrets_are_not() {
        for (options, word) in [
            (&[("bucket_name", "x")][..], "bucket_name"),
            (&[("server_side_encryption", "AES256")], "server_side_encryption"),
            (&[("service_account", "key.json")], "service_account_key"),
            (&[("skip_signature", "maybe")], "true or false"),
            (&[("service_account_key", "hush")], "service_account_key is no usable key"),
            (&[("service_account_key", r#"{"private_key": 5, "private_key_id": "hush"}"#)], "no usable key"),
            (&[("application_credentials", "/no/such")], "application_credentials cannot be read"),
            (&[("base_url", "http://h"), ("allow_http", "false"), ("bearer_token", "hush")], "allow_http"),
            (&[("connect_timeout", "soon"), ("bearer_token", "hush")], "connect_timeout"),
            (&[("storage_class", "a\nb"), ("bearer_token", "hush")], "storage_class"),
        ] {
            let error = open(options).unwrap_err().0;
            assert!(error.contains(word) && !error.contains("hush"), "{error} should say {word}");
        }
        let store = open(&[("bearer_token", "hush"), ("google_storage_class", "x")]);
        assert!(store.unwrap_err().0.contains("google_storage_class"));
        let store = open(&[("google_bearer_token", "hush"), ("kms_key_name", "projects/p/k")]).unwrap();
        assert!(!format!("{store:?}").contains("hush"), "{store:?}");
    }

    #[test]
    fn places_name_bucket_and_prefix() {
        let config = |prefix: &str| GcsConfig {
            bucket: "lake".into(),
            prefix: prefix.into(),
            options: BTreeMap::from([("skip_signature".to_owned(), "true".to_owned())]),
            ..GcsConfig::default()
        };
        for (prefix, place) in [("", "gs://lake"), ("a b", "gs://lake/a b")] {
            assert_eq!(&*GcsStore::open(config(prefix)).unwrap().client.place, place);
        }
    }
}
