//! Where an Azure account, its endpoint and its credentials come from: the URL, the store's settings, the Azure variables.
//!
//! Reads no file. Credentials that are used together come from one source: a key of the variables never joins a login of the
//! configuration, and never goes to an account that the variables do not name. Never shows a secret.

use std::collections::BTreeMap;

use object_store::azure::AzureConfigKey;

use super::aws::Options;
use super::explicit::Names;
use super::open::{OpenError, Opener, is_true, unusable};
use super::{Environment, Secret};
use crate::place::{Location, Place};
use crate::store::azure::{SECONDARY, is_option, service};
use crate::store::normal_service;

/// The options that an Azure store takes, by their short names, for hints. `azure_` may stand before each, and
/// `azure_storage_` before most.
pub(super) const OPTIONS: [&str; 37] = [
    "access_key",
    "account_key",
    "account_name",
    "allow_http",
    "allow_invalid_certificates",
    "authority_host",
    "authority_id",
    "bearer_token",
    "client_id",
    "client_secret",
    "connect_timeout",
    "credential_type",
    "disable_system_certificates",
    "endpoint",
    "federated_token_file",
    "http1_only",
    "http2_only",
    "identity_endpoint",
    "max_copy_bytes",
    "msi_endpoint",
    "msi_resource_id",
    "object_id",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "read_timeout",
    "sas_key",
    "sas_token",
    "skip_signature",
    "storage_class",
    "tenant_id",
    "timeout",
    "use_azure_cli",
    "use_emulator",
    "user_agent",
];
/// Options that together are one login, by their one name.
const LOGIN: [&str; 11] = [
    "account_key",
    "sas_key",
    "token",
    "client_id",
    "client_secret",
    "tenant_id",
    "federated_token_file",
    "object_id",
    "msi_resource_id",
    "use_azure_cli",
    "credential_type",
];
/// Those of them that are for one account alone.
const OF_ACCOUNT: [&str; 2] = ["account_key", "sas_key"];

/// What an Azure place is opened with.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) options: Options,
    pub(super) account: String,
    /// The account's endpoint in normal form; `None` for Azure's public cloud.
    pub(super) service: Option<String>,
    /// Where credentials were looked for in vain; empty when there are some.
    pub(super) looked_at: String,
}

/// One name for all spellings of an option.
fn canonical(name: &str) -> String {
    let Ok(key) = name.parse::<AzureConfigKey>() else { return name.to_owned() };
    let long: &str = key.as_ref();
    let short = long.strip_prefix("azure_storage_").or(long.strip_prefix("azure_")).unwrap_or(long);
    if short.parse::<AzureConfigKey>().is_ok_and(|same| same == key) { short.to_owned() } else { long.to_owned() }
}

/// Options from the variables: those that object_store reads, and the names of the Azure CLI.
fn variables(environment: &Environment) -> Options {
    let mut options = Options::new();
    for (name, variable) in [("account_name", "AZURE_STORAGE_ACCOUNT"), ("account_key", "AZURE_STORAGE_KEY")] {
        if let Some(value) = environment.get(variable) {
            options.insert(name.to_owned(), Secret::new(value));
        }
    }
    if let Some(value) = environment.get("IDENTITY_ENDPOINT") {
        options.insert("msi_endpoint".to_owned(), Secret::new(value));
    }
    for (name, value) in &environment.variables {
        let key = name.to_ascii_lowercase();
        if !value.is_empty() && name.starts_with("AZURE_") && is_option(&key) {
            options.insert(canonical(&key), Secret::new(value.as_str()));
        }
    }
    options
}

/// What its options are called.
const NAMES: Names = Names { options: &OPTIONS, is_option, login: &LOGIN, canonical, endpoint: "endpoint" };

impl Opener {
    /// All options of an Azure place: one-run options, then the store's, then the variables'.
    pub(super) fn resolve_azure(
        &self,
        place: &Place,
        overrides: &BTreeMap<String, Secret>,
    ) -> Result<Resolved, OpenError> {
        let in_url = match &place.location {
            Location::Azure { account, .. } => account.clone(),
            _ => None,
        };
        let store = self.settings.store_of(place)?;
        let explicit = self.named(&NAMES, place, store, overrides)?;
        let mut options = variables(&self.environment);
        let of_store = store.and_then(|(_, store)| account_of(&store.url));
        let named = explicit.get("account_name").map(|name| name.reveal().to_owned());
        if let (Some(url), Some(named)) = (in_url.as_ref().or(of_store.as_ref()), &named)
            && first_location(url) != first_location(named)
        {
            return Err(unusable(place, format!("its URL names the account {url}, its options name {named}")));
        }
        let known = in_url.clone().or(of_store).or(named);
        let ambient = options.remove("account_name").map(|name| name.reveal().to_owned());
        let mut apart = String::new();
        if let (Some(known), Some(ambient)) = (&known, &ambient)
            && first_location(known) != first_location(ambient)
            && OF_ACCOUNT.iter().any(|name| options.contains_key(*name))
        {
            options.retain(|name, _| !OF_ACCOUNT.contains(&name.as_str()));
            apart = format!("the key or SAS of the variables is for the account {ambient}; ");
        }
        if LOGIN.iter().any(|name| explicit.contains_key(*name)) {
            options.retain(|name, _| !LOGIN.contains(&name.as_str()));
        }
        options.extend(explicit);
        let emulator = options.get("use_emulator").is_some_and(is_true);
        let endpoint = options.get("endpoint").map(|endpoint| endpoint.reveal().to_owned());
        let known = known.or(ambient);
        if known.is_none() && !emulator {
            let reason = "the storage account is not known: write abfss://container@account.dfs.core.windows.net/prefix, \
                          or set AZURE_STORAGE_ACCOUNT_NAME, or account_name in the options of a store";
            return Err(unusable(place, reason.to_owned()));
        }
        let found =
            service(known.as_deref(), endpoint.as_deref(), emulator).map_err(|error| unusable(place, error.0))?;
        let (account, endpoint) = (found.name(), found.endpoint);
        let uri: Option<http::Uri> = endpoint.parse().ok();
        let public = uri.as_ref().and_then(|uri| uri.host()).is_some_and(|host| host.ends_with(".core.windows.net"));
        let service = if public { None } else { uri.as_ref().and_then(normal_service) };
        let has = |name: &str| options.contains_key(name);
        let principal = has("client_id") && has("tenant_id") && (has("client_secret") || has("federated_token_file"));
        let cli = options.get("use_azure_cli").is_some_and(is_true);
        let unsigned = options.get("skip_signature").is_some_and(is_true);
        let login = has("account_key") || has("sas_key") || has("token") || principal || cli || unsigned || emulator;
        let looked_at = match login {
            true => String::new(),
            false => format!(
                "{apart}none of AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_KEY), AZURE_STORAGE_SAS_TOKEN, \
                 AZURE_STORAGE_TOKEN, or AZURE_CLIENT_ID with AZURE_TENANT_ID and AZURE_CLIENT_SECRET or \
                 AZURE_FEDERATED_TOKEN_FILE is set; no managed identity answers"
            ),
        };
        Ok(Resolved { options, account, service, looked_at })
    }
}

/// The account's own name: keys are those of both its locations.
fn first_location(account: &str) -> &str {
    account.strip_suffix(SECONDARY).unwrap_or(account)
}

/// The account that a store's URL names.
fn account_of(url: &str) -> Option<String> {
    match Place::parse(url.as_ref(), std::path::Path::new("/"), &BTreeMap::new()).ok()?.location {
        Location::Azure { account, .. } => account,
        _ => None,
    }
}
