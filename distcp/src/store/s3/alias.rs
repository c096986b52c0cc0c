//! Servers that keep an object under another name than it was given: found out before such a key is written.
//!
//! A server on top of a file system keeps `a//b` as `a/b`: writing the one would silently replace the other. So the first key
//! of an odd kind is preceded by a probe: a throwaway object of that kind is written below the root, listed and deleted. Where
//! it does not come back under its name, every key of that kind is refused, each by name. The answer holds for the store's
//! lifetime. A crash in between leaves one empty object whose name begins with `.understudy-probe-`.

use futures::TryStreamExt as _;
use http::Method;
use manifest::ObjectKey;

use super::client::Call;
use super::{S3Store, keys, list};
use crate::store::{ListOptions, Result, StoreErrorKind};

/// A kind of key that some servers keep under another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    /// Begins with `/`.
    Leading,
    /// Has `//` in it.
    EmptySegment,
    /// Has characters that XML 1.0 cannot carry, so that a listing may not tell them.
    Unlistable,
}

const ODDITIES: [Oddity; 3] = [Oddity::Leading, Oddity::EmptySegment, Oddity::Unlistable];

/// What is known of the server, for each of [`ODDITIES`]: whether it keeps such keys as they are.
#[derive(Debug, Default)]
pub(super) struct Probes([tokio::sync::OnceCell<bool>; ODDITIES.len()]);

impl Oddity {
    fn applies(self, full: &str) -> bool {
        match self {
            Oddity::Leading => full.starts_with('/'),
            Oddity::EmptySegment => full.contains("//"),
            Oddity::Unlistable => full.chars().any(
                |c| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}'),
            ),
        }
    }

    fn refusal(self) -> &'static str {
        match self {
            Oddity::Leading => "this server keeps a key that begins with / under another name",
            Oddity::EmptySegment => "this server keeps a key with // in it under another name",
            Oddity::Unlistable => "this server does not list a key with such control characters under its name",
        }
    }

    /// A root for the probe, below `prefix`, and the only key that is to be listed below it.
    fn probe(self, prefix: &ObjectKey, name: &str) -> (ObjectKey, ObjectKey) {
        match self {
            Oddity::Leading => (format!("/{name}").into(), "x".into()),
            Oddity::EmptySegment => (ObjectKey::from(name).below(prefix), "/x".into()),
            Oddity::Unlistable => (ObjectKey::from(name).below(prefix), "\u{7}\u{ffff}".into()),
        }
    }
}

impl S3Store {
    /// As [`S3Store::full_key`], for a key that is to be written: refused when the server would keep it under another name.
    pub(super) async fn writable_key(&self, operation: &'static str, key: &ObjectKey) -> Result<String> {
        let full = self.full_key(operation, key)?;
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
        put.headers.extend(self.write_headers.clone());
        put.headers.extend(self.customer_key.clone());
        match self.client.expect(&put, &[200]).await {
            Ok(response) => drop(self.client.drain(&put, response).await?),
            Err(error) if error.kind == StoreErrorKind::InvalidKey => return Ok(false),
            Err(error) => return Err(error),
        }
        let listed: Result<Vec<_>> =
            list::list(self.client.clone(), root, false, ListOptions::default()).try_collect().await;
        // By the name it was given: a server that changes names changes it here, too.
        let delete = Call::object("probe", Method::DELETE, &key, &full);
        let response = self.client.expect(&delete, &[200, 204]).await?;
        self.client.drain(&delete, response).await?;
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
        assert_eq!(kinds("a/b\nc\td\re f"), []);
        assert_eq!(kinds("/a"), [Oddity::Leading]);
        assert_eq!(kinds("//a"), [Oddity::Leading, Oddity::EmptySegment]);
        assert_eq!(kinds("a//b"), [Oddity::EmptySegment]);
        assert_eq!(kinds("\u{1f600}/b//"), [Oddity::EmptySegment]);
        for odd in ["bell\u{7}", "\u{ffff}", "\u{b}", "\u{1f}"] {
            assert_eq!(kinds(odd), [Oddity::Unlistable], "{odd:?}");
        }
        for oddity in ODDITIES {
            for prefix in ["", "lake"] {
                let (root, key) = oddity.probe(&prefix.into(), "name");
                assert!(oddity.applies(&keys::full_key(&root, &key).unwrap()), "{oddity:?} below {prefix:?}");
            }
        }
    }
}
