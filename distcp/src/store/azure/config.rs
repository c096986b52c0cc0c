//! Opening a container from options whose names are object_store's.
//!
//! Reads no environment and no file: what is not in the options is not known, except that without keys object_store's
//! providers ask the machine's managed identity (or the Azure CLI, if told to) when the first request is signed, and read
//! the token file that the options name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::HeaderMap;
use manifest::ObjectKey;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{ClientConfigKey, HttpConnector as _, ReqwestConnector};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::client::Client;
use super::sas::AccessKey;
use super::{AzureStore, DELETE_BATCH, MAX_COPY_BYTES, MAX_PUT_BYTES};
use crate::store::Capabilities;
use crate::store::s3::copy_limit;
use crate::store::s3::keys::has_dot_segment;
use crate::store::wire::{cut, header_value};

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The account of every Azurite.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
/// Its key, which is no secret: every Azurite has it.
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Where an Azurite answers unless told otherwise.
const EMULATOR_ENDPOINT: &str = "http://127.0.0.1:10000/devstoreaccount1";

/// What a container is opened with.
#[derive(Default)]
pub struct AzureConfig {
    /// The storage account; needed unless `use_emulator` is set.
    pub account: Option<String>,
    /// Name of the container.
    pub container: String,
    /// Full key below which the store's keys lie, without slashes at its ends being added or taken; empty for all.
    pub prefix: ObjectKey,
    /// Options by object_store's names (with or without `azure_`), among them the credentials. Also `storage_class`, the
    /// access tier of what is written, and `max_copy_bytes` for servers that take less than Azure does in one copy.
    pub options: BTreeMap<String, String>,
    /// What an error says when no credentials could be had: where they were looked for.
    pub credentials_hint: String,
}

impl std::fmt::Debug for AzureConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.options.keys().collect();
        f.debug_struct("AzureConfig")
            .field("account", &self.account)
            .field("container", &self.container)
            .field("prefix", &self.prefix)
            .field("options", &names)
            .finish_non_exhaustive()
    }
}

/// Options with which no container can be opened. Names the option, never a secret's value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadAzureConfig(pub String);

fn bad<T>(why: impl Into<String>) -> Result<T, BadAzureConfig> {
    Err(BadAzureConfig(why.into()))
}

/// Options by their canonical key, as text.
struct Options(BTreeMap<String, String>);

impl Options {
    fn text(&self, key: AzureConfigKey) -> Option<&str> {
        self.0.get(key.as_ref()).map(String::as_str)
    }

    fn flag(&self, key: AzureConfigKey) -> Result<bool, BadAzureConfig> {
        let Some(text) = self.text(key) else { return Ok(false) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "y" => Ok(true),
            "false" | "0" | "no" | "off" | "n" => Ok(false),
            other => bad(format!("{} is true or false, not {other:?}", key.as_ref())),
        }
    }
}

/// Whether a name is an option of Azure stores: object_store's, but for those that have no meaning or no proof here.
pub(crate) fn is_option(name: &str) -> bool {
    use AzureConfigKey as Key;
    matches!(name, "storage_class" | "max_copy_bytes")
        || name.parse::<Key>().is_ok_and(|key| {
            !matches!(
                key,
                Key::ContainerName
                    | Key::DisableTagging
                    | Key::EncryptionKey
                    | Key::UseFabricEndpoint
                    | Key::FabricTokenServiceUrl
                    | Key::FabricWorkloadHost
                    | Key::FabricSessionToken
                    | Key::FabricClusterIdentifier
            )
        })
}

/// What the name of an account's second location ends with (RA-GRS), in places and in hosts.
pub(crate) const SECONDARY: &str = "-secondary";

/// An account and where its requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name, without [`SECONDARY`].
    pub account: String,
    /// The endpoint of its first location, by which requests are signed.
    pub endpoint: String,
    /// The endpoint of its second one, when that is meant: it can only be read.
    pub secondary: Option<String>,
}

impl Service {
    /// The account as places name it.
    pub fn name(&self) -> String {
        match self.secondary {
            Some(_) => format!("{}{SECONDARY}", self.account),
            None => self.account.clone(),
        }
    }
}

/// Where the requests to an account go, and which account it is: what the options say, else the emulator's, else Azure's.
/// `account-secondary`, or its host, is the account's second location.
pub(crate) fn service(
    account: Option<&str>,
    endpoint: Option<&str>,
    emulator: bool,
) -> Result<Service, BadAzureConfig> {
    let (name, endpoint) =
        address(account.map(|name| name.strip_suffix(SECONDARY).unwrap_or(name)), endpoint, emulator)?;
    let (first, second) = (format!("//{name}."), format!("//{name}{SECONDARY}."));
    let (last, other_last) = (format!("/{name}"), format!("/{name}{SECONDARY}"));
    let is_named = account.is_some_and(|name| name.ends_with(SECONDARY));
    let (primary, secondary) = if endpoint.contains(&second) {
        (endpoint.replacen(&second, &first, 1), Some(endpoint))
    } else if let Some(start) = endpoint.strip_suffix(&other_last) {
        (format!("{start}{last}"), Some(endpoint))
    } else if !is_named {
        (endpoint, None)
    } else if endpoint.contains(&first) {
        let secondary = endpoint.replacen(&first, &second, 1);
        (endpoint, Some(secondary))
    } else if let Some(start) = endpoint.strip_suffix(&last) {
        let secondary = format!("{start}{other_last}");
        (endpoint, Some(secondary))
    } else {
        return bad(format!(
            "the endpoint {endpoint:?} does not name the account, so its second location is not known"
        ));
    };
    Ok(Service { account: name, endpoint: primary, secondary })
}

fn address(account: Option<&str>, endpoint: Option<&str>, emulator: bool) -> Result<(String, String), BadAzureConfig> {
    let account = match (account, emulator) {
        (Some(account), _) => account,
        (None, true) => EMULATOR_ACCOUNT,
        (None, false) => return bad("the storage account is not known"),
    };
    if account.is_empty() || !account.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return bad(format!("{account:?} is no name of a storage account"));
    }
    let endpoint = match (endpoint, emulator) {
        (Some(endpoint), _) => endpoint.trim().trim_end_matches('/').to_owned(),
        (None, true) => EMULATOR_ENDPOINT.to_owned(),
        (None, false) => format!("https://{account}.blob.core.windows.net"),
    };
    let uri: http::Uri =
        endpoint.parse().map_err(|_| BadAzureConfig(format!("the endpoint {endpoint:?} is no http(s) URL")))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(_), Some(authority)) if authority.as_str().contains('@') => {
            bad("the endpoint holds a user name or password: credentials go elsewhere")
        }
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains(".dfs.") => {
            bad(format!("the endpoint {endpoint:?} is the one for folders (dfs): name the one for blobs (blob)"))
        }
        (Some("http" | "https"), Some(_)) if uri.query().is_none() => Ok((account.to_owned(), endpoint)),
        (_, Some(_)) if uri.query().is_some() => bad("the endpoint has a query: a SAS is the option sas_token"),
        _ => bad(format!("the endpoint {endpoint:?} is no http(s) URL")),
    }
}

/// The service behind an account's endpoint: its host without the account's own name, and its port.
fn host_of_service(endpoint: &str, account: &str) -> String {
    let uri: Option<http::Uri> = endpoint.parse().ok();
    let authority = uri.as_ref().and_then(|uri| uri.authority()).map_or("", |authority| authority.as_str());
    let authority = authority.to_ascii_lowercase();
    authority.strip_prefix(&format!("{account}.")).unwrap_or(&authority).to_owned()
}

impl AzureStore {
    /// Opens a container below a prefix. Sends nothing.
    pub fn open(config: AzureConfig) -> Result<Self, BadAzureConfig> {
        let AzureConfig { account, container, prefix, options, credentials_hint } = config;
        let prefix_text = prefix.as_str().ok_or_else(|| BadAzureConfig("the prefix is not UTF-8".into()))?;
        if has_dot_segment(prefix_text) {
            return bad("the prefix has a . or .. segment, which would name another place");
        }
        let mut write_headers = HeaderMap::new();
        let mut max_copy_bytes = MAX_COPY_BYTES;
        let mut known = BTreeMap::new();
        let mut builder = MicrosoftAzureBuilder::new().with_container_name(&container).with_retry(metadata_retries());
        let mut client_options = ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT_TIMEOUT);
        for (name, value) in options {
            if !is_option(&name) {
                return bad(format!("{name:?} is no option of an Azure store"));
            }
            if name == "storage_class" {
                let tier = header_value(&value)
                    .ok_or_else(|| BadAzureConfig("the value of storage_class fits into no header".into()))?;
                write_headers.insert("x-ms-access-tier", tier);
                continue;
            }
            if name == "max_copy_bytes" {
                max_copy_bytes = copy_limit(&value).map_err(BadAzureConfig)?.min(MAX_COPY_BYTES);
                continue;
            }
            let key: AzureConfigKey =
                name.parse().map_err(|_| BadAzureConfig(format!("{name:?} is no option of an Azure store")))?;
            match key {
                // Ours: object_store reads variables of the process for the emulator.
                AzureConfigKey::UseEmulator | AzureConfigKey::Endpoint | AzureConfigKey::AccountName => {}
                AzureConfigKey::Client(key) => {
                    client_options = client_options.with_config(key, value.clone());
                    builder = builder.with_config(AzureConfigKey::Client(key), value.clone());
                }
                key => builder = builder.with_config(key, value.clone()),
            }
            known.insert(key.as_ref().to_owned(), value);
        }
        let options = Options(known);
        let emulator = options.flag(AzureConfigKey::UseEmulator)?;
        let named = account.as_deref().or(options.text(AzureConfigKey::AccountName));
        let found = service(named, options.text(AzureConfigKey::Endpoint), emulator)?;
        let place_account = found.name();
        let Service { account, endpoint, secondary } = found;
        let http = endpoint.starts_with("http://");
        let allowed = options.text(AzureConfigKey::Client(ClientConfigKey::AllowHttp)).is_some();
        if http && allowed && !options.flag(AzureConfigKey::Client(ClientConfigKey::AllowHttp))? {
            return bad("the endpoint is http://, which allow_http = false forbids");
        }
        if http {
            client_options = client_options.with_allow_http(true);
            builder = builder.with_allow_http(true);
        }
        let key = options.text(AzureConfigKey::AccessKey);
        if key.is_some_and(|key| base64::engine::general_purpose::STANDARD.decode(key).is_err()) {
            return bad("account_key is not base64");
        }
        let other_login = [AzureConfigKey::SasKey, AzureConfigKey::Token, AzureConfigKey::ClientId];
        let no_login = other_login.into_iter().all(|key| options.text(key).is_none());
        if emulator && key.is_none() && no_login {
            builder = builder.with_access_key(EMULATOR_KEY);
        }
        let credentials = match options.flag(AzureConfigKey::SkipSignature)? {
            true => None,
            false => {
                // Account and URL are ours; the builder is asked for its credential provider only.
                let builder = builder.with_account(&account).with_endpoint(endpoint.clone());
                let built = builder.build().map_err(|error| unfit(&options, &error))?;
                Some(built.credentials().clone())
            }
        };
        let place: Arc<str> = match (http || named.is_none(), prefix.is_empty()) {
            (true, true) => format!("az://{container}").into(),
            (true, false) => format!("az://{container}/{}", prefix.escaped()).into(),
            (false, true) => format!("abfss://{container}@{place_account}.dfs.core.windows.net").into(),
            (false, false) => {
                format!("abfss://{container}@{place_account}.dfs.core.windows.net/{}", prefix.escaped()).into()
            }
        };
        let access_key = match (key, emulator && no_login) {
            (Some(key), _) => AccessKey::new(key),
            (None, true) => AccessKey::new(EMULATOR_KEY),
            (None, false) => None,
        };
        let http_client =
            ReqwestConnector::default().connect(&client_options).map_err(|error| unfit(&options, &error))?;
        Ok(AzureStore {
            client: Arc::new(Client {
                http: http_client,
                credentials,
                service: host_of_service(&endpoint, &account),
                account,
                access_key,
                container,
                endpoint,
                secondary,
                credentials_hint,
                place,
            }),
            prefix,
            capabilities: capabilities(max_copy_bytes),
            write_headers,
            probes: Default::default(),
            given_up: Default::default(),
        })
    }
}

/// The error of a client that cannot be made. object_store does not say by which option: each is tried alone.
fn unfit(options: &Options, error: &object_store::Error) -> BadAzureConfig {
    let spoils = |name: &&String| match name.parse() {
        Ok(AzureConfigKey::Client(key)) => {
            let value = options.0.get(*name).cloned().unwrap_or_default();
            ReqwestConnector::default().connect(&ClientOptions::new().with_config(key, value)).is_err()
        }
        _ => false,
    };
    let why = cut(&error.to_string());
    match options.0.keys().find(spoils) {
        Some(name) => BadAzureConfig(format!("the option {name} has a value that cannot be used ({why})")),
        None => BadAzureConfig(why),
    }
}

fn capabilities(max_copy_bytes: u64) -> Capabilities {
    Capabilities {
        name: "azure",
        ordered_list: false,
        start_after: false,
        levels: true,
        list_goes_on: true,
        folders: false,
        conditional_create: true,
        conditional_replace: true,
        conditional_read: true,
        server_copy: true,
        max_copy_bytes,
        lists_parts: true,
        etags: true,
        attributes: true,
        delete_batch: DELETE_BATCH,
        max_put_bytes: MAX_PUT_BYTES,
        time_step_ns: 1,
    }
}

/// Few and quick: the identity services answer at once or are not there.
fn metadata_retries() -> RetryConfig {
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

    fn open(options: &[(&str, &str)]) -> Result<AzureStore, BadAzureConfig> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        AzureStore::open(AzureConfig {
            account: Some("acc".into()),
            container: "box".into(),
            options,
            ..AzureConfig::default()
        })
    }

    #[test]
    fn accounts_and_endpoints_make_the_url() {
        let table = [
            (Some("acc"), None, false, Ok(("acc", "https://acc.blob.core.windows.net"))),
            (Some("acc"), Some("https://acc.blob.core.chinacloudapi.cn/"), false, {
                Ok(("acc", "https://acc.blob.core.chinacloudapi.cn"))
            }),
            (None, None, true, Ok(("devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1"))),
            (None, None, false, Err("not known")),
            (Some("a.b"), None, false, Err("no name")),
            (Some("acc"), Some("https://acc.dfs.core.windows.net"), false, Err("(blob)")),
            (Some("acc"), Some("https://u:p@h"), false, Err("credentials")),
            (Some("acc"), Some("https://h/?sig=x"), false, Err("sas_token")),
            (Some("acc"), Some("h"), false, Err("no http(s) URL")),
        ];
        for (account, endpoint, emulator, expected) in table {
            match (service(account, endpoint, emulator), expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!((found.account.as_str(), found.endpoint.as_str()), expected);
                    assert_eq!((found.secondary.as_deref(), found.name().as_str()), (None, expected.0));
                }
                (Err(error), Err(word)) => assert!(error.0.contains(word), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn an_accounts_second_location_is_known_by_its_name_or_its_host() {
        let (public, second) = ("https://acc.blob.core.windows.net", "https://acc-secondary.blob.core.windows.net");
        let (path, other) = ("http://127.0.0.1:1/acc", "http://127.0.0.1:1/acc-secondary");
        for (account, endpoint, primary, secondary) in [
            ("acc-secondary", None, public, second),
            ("acc-secondary", Some(public), public, second),
            ("acc-secondary", Some(second), public, second),
            ("acc", Some(second), public, second),
            ("acc-secondary", Some(path), path, other),
            ("acc", Some(other), path, other),
        ] {
            let found = service(Some(account), endpoint, false).unwrap();
            assert_eq!((found.name().as_str(), found.account.as_str()), ("acc-secondary", "acc"));
            assert_eq!((found.endpoint.as_str(), found.secondary.as_deref()), (primary, Some(secondary)));
        }
        assert!(service(Some("acc-secondary"), Some("https://cdn.example"), false).is_err());
    }

    #[test]
    fn options_that_do_not_fit_are_named_and_secrets_are_not() {
        for (options, word) in [
            (&[("container_name", "x")][..], "container_name"),
            (&[("encryption_key", "c2VjcmV0")], "encryption_key"),
            (&[("skip_signature", "maybe")], "true or false"),
            (&[("account_key", "not*base64*hush")], "account_key is not base64"),
            (&[("sas_token", "hush")], ""),
            (&[("endpoint", "http://h"), ("allow_http", "false"), ("account_key", "aHVzaA==")], "allow_http"),
            (&[("connect_timeout", "soon"), ("account_key", "aHVzaA==")], "connect_timeout"),
        ] {
            let error = open(options).unwrap_err().0;
            assert!(error.contains(word) && !error.contains("hush"), "{error} should say {word}");
        }
        let store = open(&[("account_key", "aHVzaA==")]).unwrap();
        assert!(!format!("{store:?}").contains("aHVzaA"));
        assert_eq!(&*store.client.place, "abfss://box@acc.dfs.core.windows.net");
    }
}
