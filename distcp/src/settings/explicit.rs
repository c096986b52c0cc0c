//! Options that were given to a store by name: by its section of the configuration, and for one run. The same for all clouds
//! whose logins are options.
//!
//! Resolves secrets (`env:`, `file:`), writes nothing.

use std::collections::BTreeMap;

use super::aws::Options;
use super::open::{OpenError, Opener, credentials, unusable};
use super::{Secret, StoreSettings, resolve};
use crate::place::{Place, nearest};

/// What the options of a cloud are called.
pub(super) struct Names {
    /// Those that hints name.
    pub options: &'static [&'static str],
    /// Whether there is such an option.
    pub is_option: fn(&str) -> bool,
    /// Those that are logins, by their one name.
    pub login: &'static [&'static str],
    /// The one name of an option that has several.
    pub canonical: fn(&str) -> String,
    /// What the key `endpoint` of a store stands for.
    pub endpoint: &'static str,
}

impl Opener {
    /// The options that were given for this store or this run, by their one name.
    pub(super) fn named(
        &self,
        names: &Names,
        place: &Place,
        store: Option<(&str, &StoreSettings)>,
        overrides: &BTreeMap<String, Secret>,
    ) -> Result<Options, OpenError> {
        if let Some(name) = overrides.keys().find(|name| !(names.is_option)(name)) {
            let hint = nearest(name, names.options.iter().copied());
            return Err(OpenError::UnknownOption { place: place.to_string(), option: name.clone(), hint });
        }
        let mut options = Options::new();
        let mut set = |source: &str, name: &str, value: &Secret| -> Result<(), OpenError> {
            let name = (names.canonical)(name);
            let value = resolve(value, &self.environment).map_err(|why| {
                let reason = format!("{name} of {source} {why}");
                // A secret that cannot be had is a matter of credentials, any other value one of usage.
                if names.login.contains(&name.as_str()) { credentials(place, reason) } else { unusable(place, reason) }
            })?;
            options.insert(name, value);
            Ok(())
        };
        // A login of this run replaces the store's, whole.
        let is_login = |name: &str| names.login.contains(&(names.canonical)(name).as_str());
        let replaced = overrides.keys().any(|name| is_login(name));
        if let Some((name, store)) = store {
            let source = format!("the store {name}");
            for (name, value) in store.options.iter().filter(|(name, _)| !(replaced && is_login(name))) {
                set(&source, name, value)?;
            }
            if let Some(endpoint) = &store.endpoint {
                set(&source, names.endpoint, &Secret::new(endpoint.as_str()))?;
            }
        }
        for (name, value) in overrides {
            set("the options", name, value)?;
        }
        Ok(options)
    }
}
