//! Accounts and servers that keep a blob under another name than it was given: found out before such a key is written.
//!
//! Azure advises against names with `//`, a backslash, a dot or slash at the end, and accounts with
//! folders of their own (hierarchical namespace) keep some under other names: writing the one would silently replace the
//! other. So the first key of an odd kind is preceded by a probe: a throwaway blob of that kind is written below the root,
//! listed and deleted. Where it does not come back under its name, every key of that kind is refused, each by name. The
//! answer holds for the store's lifetime. A crash in between leaves one empty blob whose name begins with
//! `.understudy-probe-`.

use futures::TryStreamExt as _;
use http::Method;
use manifest::ObjectKey;

use super::client::Call;
use super::{AzureStore, keys, list};
use crate::store::wire::set;
use crate::store::{ListOptions, Result, StoreErrorKind};

/// A kind of key that some servers keep under another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    /// Begins with `/`.
    Leading,
    /// Has `//` in it.
    EmptySegment,
    /// Ends with `/`.
    TrailingSlash,
    /// Has a segment that ends with `.`.
    DotEnd,
    /// Has a `\` in it.
    Backslash,
}

const ODDITIES: [Oddity; 5] =
    [Oddity::Leading, Oddity::EmptySegment, Oddity::TrailingSlash, Oddity::DotEnd, Oddity::Backslash];

/// What is known of the server, for each of [`ODDITIES`]: whether it keeps such keys as they are.
#[derive(Debug, Default)]
pub(super) struct Probes([tokio::sync::OnceCell<bool>; ODDITIES.len()]);

impl Oddity {
    fn applies(self, full: &str) -> bool {
        match self {
            Oddity::Leading => full.starts_with('/'),
            Oddity::EmptySegment => full.contains("//"),
            Oddity::TrailingSlash => full.ends_with('/'),
            Oddity::DotEnd => full.split('/').any(|segment| segment.ends_with('.')),
            Oddity::Backslash => full.contains('\\'),
        }
    }

    fn refusal(self) -> &'static str {
        match self {
            Oddity::Leading => "this container keeps a key that begins with / under another name",
            Oddity::EmptySegment => "this container keeps a key with // in it under another name",
            Oddity::TrailingSlash => "this container keeps a key that ends with / under another name",
            Oddity::DotEnd => "this container keeps a key with a . at the end of a segment under another name",
            Oddity::Backslash => "this container keeps a key with a backslash under another name",
        }
    }

    /// A root for the probe, below `prefix`, and the only key that is to be listed below it.
    fn probe(self, prefix: &ObjectKey, name: &str) -> (ObjectKey, ObjectKey) {
        let below = ObjectKey::from(name).below(prefix);
        match self {
            Oddity::Leading => (format!("/{name}").into(), "x".into()),
            Oddity::EmptySegment => (below, "/x".into()),
            Oddity::TrailingSlash => (below, "x/".into()),
            Oddity::DotEnd => (below, "x./y.".into()),
            Oddity::Backslash => (below, "x\\y".into()),
        }
    }
}

impl AzureStore {
    /// As [`AzureStore::full_key`], for a key that is to be written: refused when the server would keep it under another
    /// name.
    pub(super) async fn writable_key(&self, operation: &'static str, key: &ObjectKey) -> Result<String> {
        let full = self.full_key(operation, key)?;
        if !keys::is_listable(&full) {
            let detail = "Azure allows no control characters in names";
            return Err(self.error(operation, key, StoreErrorKind::InvalidKey, detail));
        }
        for (oddity, kept) in ODDITIES.into_iter().zip(&self.probes.0) {
            if oddity.applies(&full) && !*kept.get_or_try_init(|| self.keeps(oddity)).await? {
                return Err(self.error(operation, key, StoreErrorKind::InvalidKey, oddity.refusal()));
            }
        }
        Ok(full)
    }

    /// Whether the server lists a key of this kind as it was written.
    async fn keeps(&self, oddity: Oddity) -> Result<bool> {
        let name = format!(".understudy-probe-{:016x}", rand::random::<u64>());
        let (root, key) = oddity.probe(&self.prefix, &name);
        let full =
            keys::full_key(&root, &key).map_err(|why| self.error("probe", &key, StoreErrorKind::InvalidKey, why))?;
        let mut put = Call::object("probe", Method::PUT, &key, &full);
        set(&mut put.headers, "x-ms-blob-type", "BlockBlob");
        match self.client.expect(&put, &[201]).await {
            Ok(response) => drop(self.client.drain(&put, response).await?),
            // Refused as a name, by Azure with a bare 400 or 409 for some.
            Err(error) if matches!(error.kind, StoreErrorKind::InvalidKey | StoreErrorKind::Other) => return Ok(false),
            Err(error) if error.kind == StoreErrorKind::KindConflict => return Ok(false),
            Err(error) => return Err(error),
        }
        let listed: Result<Vec<_>> = list::list(self.client.clone(), root, ListOptions::default()).try_collect().await;
        // By the name it was given: a server that changes names changes it here, too.
        let delete = Call::object("probe", Method::DELETE, &key, &full);
        match self.client.expect(&delete, &[200, 202]).await {
            Ok(response) => drop(self.client.drain(&delete, response).await?),
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match listed {
            Ok(pages) => Ok(pages.iter().flatten().map(|listed| &listed.key).eq([&key])),
            Err(error) if error.kind == StoreErrorKind::Protocol => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_37_kinds_of_odd_keys() {
        let kinds = |key: &str| ODDITIES.into_iter().filter(|kind| kind.applies(key)).collect::<Vec<_>>();
        assert_eq!(kinds("a/b.c/.d e"), []);
        assert_eq!(kinds("/a"), [Oddity::Leading]);
        assert_eq!(kinds("a//b"), [Oddity::EmptySegment]);
        assert_eq!(kinds("a/"), [Oddity::TrailingSlash]);
        assert_eq!(kinds("a./b"), [Oddity::DotEnd]);
        assert_eq!(kinds("a\\b"), [Oddity::Backslash]);
        for oddity in ODDITIES {
            for prefix in ["", "lake"] {
                let (root, key) = oddity.probe(&prefix.into(), "name");
                assert!(oddity.applies(&keys::full_key(&root, &key).unwrap()), "{oddity:?} below {prefix:?}");
            }
        }
    }
}
