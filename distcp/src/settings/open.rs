//! Opening places: settings, variables and one-run options become a store.
//!
//! Sends nothing: what can be said without a request is said here, the rest comes with the first one. Never shows a secret.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use object_store::aws::AmazonS3ConfigKey;

use super::aws::{self, Options};
use super::{Environment, Secret, Settings, SettingsError, StoreSettings, read_small, resolve};
use crate::place::{Location, Place, nearest};
use crate::store::azure::{AzureConfig, AzureStore};
use crate::store::gcs::{GcsConfig, GcsStore};
use crate::store::hdfs::{self, HdfsConfig, HdfsStore};
use crate::store::local::{LocalOptions, LocalStore};
use crate::store::retry::RetryPolicy;
use crate::store::s3::{S3Config, S3Store};
use crate::store::{Store, StoreError, Sweep};

/// The options that an S3 store takes, by their short names, for hints. `aws_` may stand before each.
pub(super) const S3_OPTIONS: [&str; 44] = [
    "access_key_id",
    "allow_http",
    "allow_invalid_certificates",
    "checksum_algorithm",
    "conditional_put",
    "connect_timeout",
    "container_authorization_token_file",
    "container_credentials_full_uri",
    "container_credentials_relative_uri",
    "copy_if_not_exists",
    "default_region",
    "disable_bulk_delete",
    "disable_system_certificates",
    "disable_tagging",
    "endpoint",
    "endpoint_url_sts",
    "http1_only",
    "http2_only",
    "imdsv1_fallback",
    "max_copy_bytes",
    "metadata_endpoint",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "read_timeout",
    "region",
    "request_payer",
    "role_arn",
    "role_session_name",
    "secret_access_key",
    "server_side_encryption",
    "session_token",
    "skip_signature",
    "sse_bucket_key_enabled",
    "sse_customer_key_base64",
    "sse_kms_key_id",
    "storage_class",
    "timeout",
    "unsigned_payload",
    "user_agent",
    "virtual_hosted_style_request",
    "web_identity_token_file",
];
/// Options that together are one identity: they come from one source.
const KEYS: [&str; 3] = ["access_key_id", "secret_access_key", "session_token"];

/// Whether a name is an option of S3 stores.
pub(super) fn is_s3_option(name: &str) -> bool {
    matches!(name, "storage_class" | "max_copy_bytes")
        || name.parse::<AmazonS3ConfigKey>().is_ok_and(|key| key != AmazonS3ConfigKey::Bucket)
}

/// One name for all spellings of an option.
pub(super) fn canonical(name: &str) -> String {
    match name.parse::<AmazonS3ConfigKey>() {
        Ok(AmazonS3ConfigKey::S3Endpoint | AmazonS3ConfigKey::Endpoint) => "endpoint".into(),
        Ok(AmazonS3ConfigKey::DefaultRegion | AmazonS3ConfigKey::Region) => "region".into(),
        Ok(key) => {
            let name: &str = key.as_ref();
            let short = name.strip_prefix("aws_").unwrap_or(name);
            if short.parse::<AmazonS3ConfigKey>().is_ok_and(|same| same == key) { short.into() } else { name.into() }
        }
        Err(_) => name.into(),
    }
}

/// A place that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration does not allow it (exit code 2).
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An option that nothing reads (exit code 2).
    #[error("{option:?} is no option of {place}{hint}")]
    UnknownOption {
        /// The place.
        place: String,
        /// The option.
        option: String,
        /// `, did you mean ...`, or nothing.
        hint: String,
    },
    /// Settings that do not fit together (exit code 2).
    #[error("cannot open {place}: {reason}")]
    Unusable {
        /// The place.
        place: String,
        /// Why not.
        reason: String,
    },
    /// Credentials are missing, or stand where they cannot be used (exit code 12).
    #[error("no credentials for {place}: {reason}")]
    Credentials {
        /// The place.
        place: String,
        /// What was looked at.
        reason: String,
    },
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Whether credentials or permissions are the cause (exit code 12; the others but a store's own are usage, 2).
    pub fn is_permission(&self) -> bool {
        match self {
            OpenError::Credentials { .. } => true,
            OpenError::Store(error) => error.is_permission(),
            _ => false,
        }
    }
}

/// How to open a place.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// `--source-option`/`--target-option`: they win over everything else.
    pub overrides: BTreeMap<String, Secret>,
    /// For local places.
    pub local: LocalOptions,
}

/// An opened place.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The store on the place.
    pub store: Arc<dyn Store>,
    /// The same store, if runs that died leave files in it.
    pub sweep: Option<Arc<dyn Sweep>>,
}

/// Opens places by a configuration and what is known of the process.
#[derive(Debug, Clone, Default)]
pub struct Opener {
    /// The configuration.
    pub settings: Settings,
    /// Variables and home folder.
    pub environment: Environment,
    /// How long stores are tried again.
    pub retry: RetryPolicy,
}

/// What an S3 place is opened with.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) options: Options,
    /// Where credentials were looked for in vain; empty when there are some.
    looked_at: String,
}

impl Opener {
    /// Reads a place as users write it, with the service that it is at: places of one service compare.
    pub fn place(&self, text: &OsStr, cwd: &Path, overrides: &BTreeMap<String, Secret>) -> Result<Place, OpenError> {
        let mut place = self.settings.place(text, cwd)?;
        if let Location::S3 { .. } = place.location {
            let resolved = self.resolve_s3(&place, overrides)?;
            place.service = service_of(&resolved.options);
        }
        if let Location::Azure { .. } = place.location {
            let resolved = self.resolve_azure(&place, overrides)?;
            place.service = resolved.service;
            if let Location::Azure { account, .. } = &mut place.location {
                *account = Some(resolved.account);
            }
        }
        if let Location::Gcs { .. } = place.location {
            place.service = self.resolve_gcs(&place, overrides)?.service;
        }
        Ok(place)
    }

    /// Opens a place.
    pub fn open(&self, place: &Place, options: &OpenOptions) -> Result<Opened, OpenError> {
        match &place.location {
            Location::Local { path, .. } => {
                if let Some(option) = options.overrides.keys().next() {
                    let hint = "; local places take none".to_owned();
                    return Err(OpenError::UnknownOption { place: place.to_string(), option: option.clone(), hint });
                }
                let store = LocalStore::open(path, options.local.clone())?;
                Ok(Opened { store: Arc::new(store.clone()), sweep: Some(Arc::new(store)) })
            }
            Location::S3 { bucket, prefix } => {
                let resolved = self.resolve_s3(place, &options.overrides)?;
                let store = S3Store::open(S3Config {
                    bucket: bucket.clone(),
                    prefix: prefix.clone(),
                    options: resolved.options.iter().map(|(k, v)| (k.clone(), v.reveal().to_owned())).collect(),
                    ca_bundle: self.ca_bundle(place)?,
                    credentials_hint: resolved.looked_at,
                })
                .map_err(|error| unusable(place, error.0))?;
                Ok(Opened { store: Arc::new(store), sweep: None })
            }
            Location::Azure { container, prefix, .. } => {
                let resolved = self.resolve_azure(place, &options.overrides)?;
                let store = AzureStore::open(AzureConfig {
                    account: Some(resolved.account),
                    container: container.clone(),
                    prefix: prefix.clone(),
                    options: resolved.options.iter().map(|(k, v)| (k.clone(), v.reveal().to_owned())).collect(),
                    credentials_hint: resolved.looked_at,
                })
                .map_err(|error| unusable(place, error.0))?;
                Ok(Opened { store: Arc::new(store), sweep: None })
            }
            Location::Hdfs { authority, path } => {
                let store = HdfsStore::open(HdfsConfig {
                    authority: authority.clone(),
                    path: path.clone(),
                    options: self.resolve_hdfs(place, &options.overrides)?,
                    now_ns: options.local.now_ns,
                })
                .map_err(|error| unusable(place, error.0))?;
                Ok(Opened { store: Arc::new(store.clone()), sweep: Some(Arc::new(store)) })
            }
            Location::Gcs { bucket, prefix } => {
                let resolved = self.resolve_gcs(place, &options.overrides)?;
                let store = GcsStore::open(GcsConfig {
                    bucket: bucket.clone(),
                    prefix: prefix.clone(),
                    options: resolved.options.iter().map(|(k, v)| (k.clone(), v.reveal().to_owned())).collect(),
                    credentials_hint: resolved.looked_at,
                })
                .map_err(|error| unusable(place, error.0))?;
                Ok(Opened { store: Arc::new(store), sweep: None })
            }
        }
    }

    fn ca_bundle(&self, place: &Place) -> Result<Option<Vec<u8>>, OpenError> {
        let Some(path) = self.environment.get("AWS_CA_BUNDLE") else { return Ok(None) };
        read_small(Path::new(path))
            .map(Some)
            .map_err(|why| unusable(place, format!("AWS_CA_BUNDLE names {path}: {why}")))
    }

    /// All options of an HDFS place: one-run options, then the store's; the configuration folder from `HADOOP_CONF_DIR` or
    /// `HADOOP_HOME`. The user (`HADOOP_USER_NAME`), Kerberos and token files are looked for by the client itself.
    fn resolve_hdfs(
        &self,
        place: &Place,
        overrides: &BTreeMap<String, Secret>,
    ) -> Result<BTreeMap<String, String>, OpenError> {
        let store = self.settings.store_of(place)?;
        let given = store.into_iter().flat_map(|(_, store)| &store.options).chain(overrides);
        let mut options = BTreeMap::new();
        for (name, value) in given {
            if !hdfs::is_option(name) {
                let hint = match nearest(name, hdfs::OWN_OPTIONS) {
                    hint if hint.is_empty() => "; it takes keys of Hadoop's configuration (dfs.*)".to_owned(),
                    hint => hint,
                };
                return Err(OpenError::UnknownOption { place: place.to_string(), option: name.clone(), hint });
            }
            let value = resolve(value, &self.environment).map_err(|why| unusable(place, format!("{name} {why}")))?;
            options.insert(name.clone(), value.reveal().to_owned());
        }
        let environment = &self.environment;
        let installed = || environment.get("HADOOP_HOME").map(|home| format!("{home}/etc/hadoop"));
        if let Some(folder) = environment.get("HADOOP_CONF_DIR").map(str::to_owned).or_else(installed) {
            options.entry("config_dir".to_owned()).or_insert(folder);
        }
        Ok(options)
    }

    /// All options of an S3 place: one-run options, then the store's, then the variables', then the shared files'.
    pub(super) fn resolve_s3(
        &self,
        place: &Place,
        overrides: &BTreeMap<String, Secret>,
    ) -> Result<Resolved, OpenError> {
        let store = self.settings.store_of(place)?;
        let explicit = self.explicit(place, store, overrides)?;
        let profile = store.and_then(|(_, store)| store.profile.as_deref());
        let mut options = aws::variables(&self.environment);
        let has = |options: &Options, name: &str| options.contains_key(name);
        let looked_at;
        if has(&explicit, "access_key_id") || has(&explicit, "secret_access_key") {
            for (one, other) in [("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")] {
                if !has(&explicit, one) {
                    return Err(credentials(place, format!("{other} is set, {one} is not")));
                }
            }
            looked_at = String::new();
        } else if has(&explicit, "session_token") {
            return Err(credentials(place, "session_token is set without access_key_id".into()));
        } else if explicit.get("skip_signature").or(options.get("skip_signature")).is_some_and(is_true) {
            looked_at = String::new();
        } else {
            looked_at = self.ambient_keys(place, profile, &mut options)?;
        }
        options.extend(explicit);
        Ok(Resolved { options, looked_at })
    }

    /// The options that were given for this store or this run, by their one name.
    fn explicit(
        &self,
        place: &Place,
        store: Option<(&str, &StoreSettings)>,
        overrides: &BTreeMap<String, Secret>,
    ) -> Result<Options, OpenError> {
        let mut options = Options::new();
        let mut set = |source: &str, name: &str, value: &Secret| -> Result<(), OpenError> {
            let value = resolve(value, &self.environment)
                .map_err(|why| credentials_or_usage(place, name, format!("{name} of {source} {why}")))?;
            options.insert(canonical(name), value);
            Ok(())
        };
        if let Some((name, store)) = store {
            let source = format!("the store {name}");
            for (name, value) in &store.options {
                set(&source, name, value)?;
            }
            let texts = [("endpoint", &store.endpoint), ("region", &store.region)];
            for (name, value) in texts {
                if let Some(value) = value {
                    set(&source, name, &Secret::new(value.as_str()))?;
                }
            }
            let secrets = [&store.access_key_id, &store.secret_access_key, &store.session_token];
            for (name, value) in KEYS.into_iter().zip(secrets) {
                if let Some(value) = value {
                    set(&source, name, value)?;
                }
            }
        }
        for (name, value) in overrides {
            if !is_s3_option(name) {
                let hint = nearest(name, S3_OPTIONS);
                return Err(OpenError::UnknownOption { place: place.to_string(), option: name.clone(), hint });
            }
            set("the options", name, value)?;
        }
        Ok(options)
    }

    /// Adds keys from the variables or the shared files, and the profile's region and endpoint. Answers where keys were
    /// looked for in vain; then a container's or instance's role is asked when the first request is signed.
    fn ambient_keys(&self, place: &Place, profile: Option<&str>, options: &mut Options) -> Result<String, OpenError> {
        let environment = &self.environment;
        let mut looked = Vec::new();
        if profile.is_none() {
            if let Some(keys) = aws::variable_keys(environment) {
                options.extend(keys);
                // Keys from variables, but region and endpoint may still stand in the files.
                if let Ok(found) = aws::read_profile(environment.get("AWS_PROFILE").unwrap_or("default"), environment) {
                    for (name, value) in found.options {
                        if matches!(name.as_str(), "region" | "endpoint") {
                            options.entry(name).or_insert(value);
                        }
                    }
                }
                return Ok(String::new());
            }
            looked.push("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set".to_owned());
            if options.contains_key("web_identity_token_file") && options.contains_key("role_arn") {
                return Ok("the role of AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN was not given".into());
            }
        }
        let named = profile.or(environment.get("AWS_PROFILE").or(environment.get("AWS_DEFAULT_PROFILE")));
        let name = named.unwrap_or("default");
        let found = aws::read_profile(name, environment).map_err(|error| credentials(place, error.0))?;
        let files: Vec<String> =
            aws::shared_files(environment).into_iter().flatten().map(|file| file.display().to_string()).collect();
        let files = if files.is_empty() { "any file (there is no home folder)".to_owned() } else { files.join(" or ") };
        if named.is_some() && !found.found {
            return Err(credentials(place, format!("the AWS profile {name:?} is not in {files}")));
        }
        let has_keys =
            found.options.contains_key("access_key_id") || found.options.contains_key("web_identity_token_file");
        for (option, value) in found.options {
            // A profile that was named for this store knows better than variables for all.
            if profile.is_some() || !matches!(option.as_str(), "region" | "endpoint") {
                options.insert(option, value);
            } else {
                options.entry(option).or_insert(value);
            }
        }
        if has_keys {
            return Ok(String::new());
        }
        looked.push(format!("the AWS profile {name:?} has no keys in {files}"));
        let container = ["container_credentials_relative_uri", "container_credentials_full_uri"];
        let container = container.iter().any(|name| options.contains_key(*name));
        if !container
            && environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(|flag| flag.eq_ignore_ascii_case("true"))
        {
            looked.push("AWS_EC2_METADATA_DISABLED is set".into());
            return Err(credentials(place, looked.join("; ")));
        }
        looked.push("no role service answers".into());
        Ok(looked.join("; "))
    }
}

pub(super) fn is_true(value: &Secret) -> bool {
    matches!(value.reveal().to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "y")
}

pub(super) fn unusable(place: &Place, reason: String) -> OpenError {
    OpenError::Unusable { place: place.to_string(), reason }
}

pub(super) fn credentials(place: &Place, reason: String) -> OpenError {
    OpenError::Credentials { place: place.to_string(), reason }
}

/// A secret that cannot be had is a matter of credentials, any other value one of usage.
fn credentials_or_usage(place: &Place, option: &str, reason: String) -> OpenError {
    if KEYS.contains(&canonical(option).as_str()) { credentials(place, reason) } else { unusable(place, reason) }
}

/// The service behind an endpoint in normal form; `None` for AWS itself.
fn service_of(options: &Options) -> Option<String> {
    let uri: http::Uri = options.get("endpoint")?.reveal().trim().parse().ok()?;
    let host = uri.host()?.to_ascii_lowercase();
    if host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") {
        return None;
    }
    crate::store::normal_service(&uri)
}
