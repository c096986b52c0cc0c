//! Listing below the opened prefix with our own ListObjectsV2: every key as the bytes it is, in order, or an error.
//!
//! The next page is asked for while the last one is consumed. A listing that was cut short, came out of order or makes no
//! sense ends with an error: what ended without one is whole. Reads only; a crash leaves nothing.

use std::cmp::Ordering;
use std::sync::Arc;

use futures::stream::BoxStream;
use http::Method;
use manifest::{EntryKind, Fingerprint, Listed, ObjectKey};

use super::client::{Call, Client, unquoted};
use super::keys::Encoding;
use super::xml::{self, Element};
use crate::store::wire::{PageSender, pages_ahead};
use crate::store::{ListOptions, Result, StoreError, StoreErrorKind};

/// Keys a page: the most that S3 gives.
const PAGE_KEYS: &str = "1000";

/// What one page says.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// Full keys.
    listed: Vec<Listed>,
    /// Where the next page starts; `None` on the last one.
    token: Option<String>,
}

/// Lists all keys below `prefix` after `options.after`. See [`crate::store::Store::list`].
pub(super) fn list(
    client: Arc<Client>,
    prefix: ObjectKey,
    ordered: bool,
    options: ListOptions,
) -> BoxStream<'static, Result<Vec<Listed>>> {
    pages_ahead(move |sender| async move { pages(&client, &prefix, ordered, &options, &sender).await })
}

async fn pages(
    client: &Client,
    prefix: &ObjectKey,
    ordered: bool,
    options: &ListOptions,
    sender: &PageSender,
) -> Result<()> {
    let fail = |kind, detail: String| client.error("list", None, kind, detail);
    let text = |key: &ObjectKey| -> Result<String> {
        match key.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(fail(StoreErrorKind::InvalidKey, format!("S3 keys are UTF-8, not {key}"))),
        }
    };
    let folder = if prefix.is_empty() { String::new() } else { format!("{}/", text(prefix)?) };
    let after = match &options.after {
        Some(key) => Some(format!("{folder}{}", text(key)?)),
        None => None,
    };
    let after_key = after.as_deref().map(ObjectKey::from);
    let mut last: Option<ObjectKey> = None;
    let mut token: Option<String> = None;
    loop {
        let mut call = Call::bucket("list", Method::GET)
            .query("encoding-type", "url")
            .query("list-type", "2")
            .query("max-keys", PAGE_KEYS);
        if !folder.is_empty() {
            call = call.query("prefix", folder.clone());
        }
        match (&token, &after) {
            (Some(token), _) => call = call.query("continuation-token", token.clone()),
            (None, Some(after)) => call = call.query("start-after", after.clone()),
            (None, None) => {}
        }
        let response = client.expect(&call, &[200]).await.map_err(no_bucket)?;
        let (_, root) = client.xml(&call, response, "ListBucketResult").await?;
        let page = read_page(&root).map_err(|detail| fail(StoreErrorKind::Protocol, detail))?;
        let mut batch = Vec::with_capacity(page.listed.len());
        for mut listed in page.listed {
            if ordered && last.as_ref().is_some_and(|last| listed.key <= *last) {
                let before = last.as_ref().map(ToString::to_string).unwrap_or_default();
                let detail = format!("the listing is out of order: {} came after {before}", listed.key);
                return Err(fail(StoreErrorKind::Protocol, detail));
            }
            last = Some(listed.key.clone());
            if let Some(after) = after_key.as_ref().filter(|after| listed.key <= **after) {
                // It lies behind the start in the server's order, and no other lister would come by it.
                if ordered && utf16_order(&listed.key, after).is_gt() {
                    let detail = format!("the listing is out of order: {} came after {after}", listed.key);
                    return Err(fail(StoreErrorKind::Protocol, detail));
                }
                // A server that ignores start-after gives the beginning again: right, only slower.
                continue;
            }
            let Some(rest) = listed.key.strip_prefix(prefix) else {
                let detail = format!("the listing of {folder:?} holds {}, which does not lie below", listed.key);
                return Err(fail(StoreErrorKind::Protocol, detail));
            };
            // The marker object of the root itself has no name below the root.
            if rest.is_empty() || options.without.iter().any(|folder| rest.is_within(folder)) {
                continue;
            }
            listed.key = rest;
            batch.push(listed);
        }
        if page.token.is_some() && page.token == token {
            return Err(fail(StoreErrorKind::Protocol, "the same page is announced again and again".into()));
        }
        token = page.token;
        if !batch.is_empty() && sender.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
        if token.is_none() {
            return Ok(());
        }
    }
}

/// How servers order keys that compare them as Java and JavaScript compare strings: what is above U+FFFF comes before U+E000.
/// Bytes that are no text have no such order.
fn utf16_order(a: &ObjectKey, b: &ObjectKey) -> Ordering {
    match (a.as_str(), b.as_str()) {
        (Some(a), Some(b)) => a.encode_utf16().cmp(b.encode_utf16()),
        _ => a.cmp(b),
    }
}

/// A listing's 404 without words means that there is no such bucket: nothing else was asked for.
fn no_bucket(mut error: StoreError) -> StoreError {
    if error.kind == StoreErrorKind::NotFound {
        error.kind = StoreErrorKind::NoBucket;
    }
    error
}

/// The keys of a page of a listing (ListObjectsV2) as it came over the network.
///
/// # Errors
/// What is wrong with it, in words: a page is read whole or not at all.
pub fn read_listing(page: &[u8]) -> Result<Vec<ObjectKey>, String> {
    let page = read_page(&xml::parse(page)?)?;
    Ok(page.listed.into_iter().map(|listed| listed.key).collect())
}

fn read_page(root: &Element) -> Result<Page, String> {
    let url = root.text_of("EncodingType").is_some_and(|kind| kind.eq_ignore_ascii_case("url"));
    let raw_keys = || root.all("Contents").filter_map(|contents| contents.text_of("Key"));
    let encoding = Encoding::of_page(url, raw_keys());
    let mut listed = Vec::new();
    for contents in root.all("Contents") {
        let raw = contents.text_of("Key").ok_or("an object of the listing has no key")?;
        let key = ObjectKey::from(encoding.decode(raw));
        let size = contents.text_of("Size").unwrap_or_default();
        let size_bytes = size.trim().parse().map_err(|_| format!("{key} has the size {size:?}"))?;
        let mtime_ns = match contents.text_of("LastModified") {
            Some(text) => Some(mtime_ns(text).ok_or_else(|| format!("{key} has the time {text:?}"))?),
            None => None,
        };
        let etag = contents.text_of("ETag").map(unquoted).filter(|etag| !etag.is_empty()).map(str::to_owned);
        let fingerprint = Fingerprint { size_bytes, mtime_ns, etag, ..Fingerprint::default() };
        listed.push(Listed { key, kind: EntryKind::Object, fingerprint });
    }
    if let Some(count) = root.text_of("KeyCount")
        && count.trim().parse::<usize>().ok() != Some(listed.len() + root.all("CommonPrefixes").count())
    {
        return Err(format!("the page announces {count} keys and holds {}", listed.len()));
    }
    let token = root.text_of("NextContinuationToken").filter(|token| !token.is_empty()).map(str::to_owned);
    match (root.text_of("IsTruncated").map(str::trim), token) {
        (Some("true"), None) => Err("the page says that more follows, but not where".into()),
        (Some("true"), token) => Ok(Page { listed, token }),
        (Some("false"), _) => Ok(Page { listed, token: None }),
        _ => Err("the page does not say whether it is the last".into()),
    }
}

/// `LastModified` of a listing in nanoseconds, cut to whole seconds: HEAD and GET tell no more, and all must agree.
fn mtime_ns(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.trim().parse().ok()?;
    time.as_second().checked_mul(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::s3::xml::parse;

    fn page(inner: &str) -> Result<Page, String> {
        read_page(&parse(format!("<ListBucketResult>{inner}</ListBucketResult>").as_bytes()).unwrap())
    }

    #[test]
    fn a_page_is_read_whole_or_not_at_all() {
        let contents = "<Contents><Key>a%2Bb+c</Key><LastModified>2024-02-03T04:05:06.789Z</LastModified>\
                        <ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>";
        let good = page(&format!(
            "<EncodingType>url</EncodingType><KeyCount>1</KeyCount><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>t</NextContinuationToken>{contents}"
        ))
        .unwrap();
        assert_eq!(good.token.as_deref(), Some("t"));
        assert_eq!(good.listed[0].key, ObjectKey::from("a+b c"));
        assert_eq!(good.listed[0].fingerprint.etag.as_deref(), Some("e"));
        assert_eq!(good.listed[0].fingerprint.mtime_ns, Some(1_706_933_106_000_000_000));
        let table = [
            (format!("<KeyCount>2</KeyCount><IsTruncated>false</IsTruncated>{contents}"), "announces"),
            (format!("<IsTruncated>true</IsTruncated>{contents}"), "not where"),
            (contents.to_owned(), "the last"),
            ("<IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents>".to_owned(), "no key"),
            ("<IsTruncated>false</IsTruncated><Contents><Key>k</Key></Contents>".to_owned(), "size"),
        ];
        for (inner, word) in table {
            let error = page(&inner).unwrap_err();
            assert!(error.contains(word), "{error} should say {word}");
        }
    }

    #[test]
    fn keys_stay_as_they_are_where_the_server_does_not_encode() {
        let page =
            page("<IsTruncated>false</IsTruncated><Contents><Key> a+b%20</Key><Size>1</Size></Contents>").unwrap();
        assert_eq!(page.listed[0].key, ObjectKey::from(" a+b%20"));
        assert_eq!(page.listed[0].fingerprint.mtime_ns, None);
    }
}
