//! Listing below the opened prefix with our own List Blobs: every key as the bytes it is, or an error.
//!
//! The next page is asked for while the last one is consumed. A listing that was cut short or makes no sense ends with an
//! error: what ended without one is whole. No order is promised: accounts with folders list folder by folder, and no
//! document says in which order the others compare beyond ASCII; whoever needs an order sorts. Azure cannot start after a
//! key, so what comes before `after` is read and left out. Reads only; a crash leaves nothing.

use std::sync::Arc;

use futures::stream::BoxStream;
use http::Method;
use manifest::{EntryKind, Fingerprint, Listed, ObjectKey};
use percent_encoding::percent_decode_str;

use super::attributes::marks_folder;
use super::client::{Call, Client};
use crate::store::wire::{PageSender, http_date_ns, pages_ahead, unquoted};
use crate::store::xml::{self, Element};
use crate::store::{ListOptions, Result, StoreErrorKind};

/// Keys a page; with 8 KiB of metadata each it stays below the longest answer that is read.
const PAGE_KEYS: &str = "2000";

/// What one page says.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// Full keys.
    listed: Vec<Listed>,
    /// Where the next page starts; `None` on the last one.
    marker: Option<String>,
}

/// Lists all keys below `prefix`. See [`crate::store::Store::list`].
pub(super) fn list(
    client: Arc<Client>,
    prefix: ObjectKey,
    options: ListOptions,
) -> BoxStream<'static, Result<Vec<Listed>>> {
    pages_ahead(move |sender| async move { pages(&client, &prefix, &options, &sender).await })
}

async fn pages(client: &Client, prefix: &ObjectKey, options: &ListOptions, sender: &PageSender) -> Result<()> {
    let fail = |kind, detail: String| client.error("list", None, kind, detail);
    let text = prefix
        .as_str()
        .ok_or_else(|| fail(StoreErrorKind::InvalidKey, format!("names of blobs are UTF-8, not {prefix}")))?;
    let folder = if prefix.is_empty() { String::new() } else { format!("{text}/") };
    let mut marker: Option<String> = None;
    loop {
        let mut call = Call::container("list", Method::GET)
            .query("comp", "list")
            .query("include", "metadata")
            .query("maxresults", PAGE_KEYS);
        if !folder.is_empty() {
            call = call.query("prefix", folder.clone());
        }
        if let Some(marker) = &marker {
            call = call.query("marker", marker.clone());
        }
        let response = client.expect(&call, &[200]).await.map_err(|mut error| {
            // Nothing but the container was asked for.
            if error.kind == StoreErrorKind::NotFound {
                error.kind = StoreErrorKind::NoBucket;
            }
            error
        })?;
        let (_, root) = client.xml(&call, response, "EnumerationResults").await?;
        let page = read_page(&root).map_err(|detail| fail(StoreErrorKind::Protocol, detail))?;
        let mut batch = Vec::with_capacity(page.listed.len());
        for mut listed in page.listed {
            let Some(rest) = listed.key.strip_prefix(prefix) else {
                let detail = format!("the listing of {folder:?} holds {}, which does not lie below", listed.key);
                return Err(fail(StoreErrorKind::Protocol, detail));
            };
            // The marker object of the root itself has no name below the root.
            if rest.is_empty()
                || options.after.as_ref().is_some_and(|after| rest <= *after)
                || options.without.iter().any(|folder| rest.is_within(folder))
            {
                continue;
            }
            listed.key = rest;
            batch.push(listed);
        }
        if page.marker.is_some() && page.marker == marker {
            return Err(fail(StoreErrorKind::Protocol, "the same page is announced again and again".into()));
        }
        marker = page.marker;
        if !batch.is_empty() && sender.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
        if marker.is_none() {
            return Ok(());
        }
    }
}

/// The keys of a page of a listing (List Blobs) as it came over the network.
///
/// # Errors
/// What is wrong with it, in words: a page is read whole or not at all.
pub fn read_listing(page: &[u8]) -> Result<Vec<ObjectKey>, String> {
    let page = read_page(&xml::parse(page)?)?;
    Ok(page.listed.into_iter().map(|listed| listed.key).collect())
}

fn read_page(root: &Element) -> Result<Page, String> {
    let blobs = root.child("Blobs").ok_or("the page has no list")?;
    let mut listed = Vec::new();
    for blob in blobs.all("Blob") {
        let name =
            blob.child("Name").filter(|name| !name.text.is_empty()).ok_or("a blob of the listing has no name")?;
        let key = match name.encoded {
            true => ObjectKey::from(percent_decode_str(&name.text).collect::<Vec<u8>>()),
            false => ObjectKey::from(name.text.as_str()),
        };
        let properties = blob.child("Properties").ok_or_else(|| format!("{key} has no properties"))?;
        if is_folder(blob, properties) {
            continue;
        }
        let size = properties.text_of("Content-Length").unwrap_or_default();
        let size_bytes = size.trim().parse().map_err(|_| format!("{key} has the size {size:?}"))?;
        let mtime_ns = match properties.text_of("Last-Modified") {
            Some(text) => Some(http_date_ns(text).ok_or_else(|| format!("{key} has the time {text:?}"))?),
            None => None,
        };
        let etag = properties.text_of("Etag").map(unquoted).filter(|etag| !etag.is_empty()).map(str::to_owned);
        let fingerprint = Fingerprint { size_bytes, mtime_ns, etag, ..Fingerprint::default() };
        listed.push(Listed { key, kind: EntryKind::Object, fingerprint });
    }
    let marker = root.child("NextMarker").ok_or("the page does not say whether it is the last")?;
    let marker = Some(marker.text.clone()).filter(|marker| !marker.is_empty());
    Ok(Page { listed, marker })
}

/// Folders of an account that has such, and the empty blobs by which Hadoop plays them, are no objects.
fn is_folder(blob: &Element, properties: &Element) -> bool {
    let directory = properties.text_of("ResourceType").is_some_and(|kind| kind.eq_ignore_ascii_case("directory"));
    let marked = |metadata: &Element| metadata.children.iter().any(|item| marks_folder(&item.name, &item.text));
    directory || blob.child("Metadata").is_some_and(marked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::xml::parse;

    fn page(inner: &str) -> Result<Page, String> {
        read_page(&parse(format!("<EnumerationResults>{inner}</EnumerationResults>").as_bytes()).unwrap())
    }

    fn blob(name: &str, properties: &str, metadata: &str) -> String {
        format!(
            "<Blob>{name}<Properties><Last-Modified>Sat, 03 Feb 2024 04:05:06 GMT</Last-Modified><Etag>0x8D</Etag>\
             <Content-Length>7</Content-Length>{properties}</Properties><Metadata>{metadata}</Metadata></Blob>"
        )
    }

    #[test]
    fn a_page_is_read_whole_or_not_at_all() {
        let good = page(&format!(
            "<Blobs>{}{}</Blobs><NextMarker>2!8!x</NextMarker>",
            blob("<Name> a+b%20&amp;</Name>", "", "<note>x</note>"),
            blob("<Name Encoded=\"true\">b%EF%BF%BF</Name>", "", "")
        ))
        .unwrap();
        assert_eq!(good.marker.as_deref(), Some("2!8!x"));
        let keys: Vec<_> = good.listed.iter().map(|listed| listed.key.clone()).collect();
        assert_eq!(keys, [ObjectKey::from(" a+b%20&"), ObjectKey::from("b\u{ffff}")]);
        assert_eq!(good.listed[0].fingerprint.etag.as_deref(), Some("0x8D"));
        assert_eq!(good.listed[0].fingerprint.mtime_ns, Some(1_706_933_106_000_000_000));
        let table = [
            ("<NextMarker/>".to_owned(), "no list"),
            ("<Blobs/>".to_owned(), "the last"),
            (format!("<Blobs>{}</Blobs><NextMarker/>", blob("", "", "")), "no name"),
            ("<Blobs><Blob><Name>k</Name></Blob></Blobs><NextMarker/>".to_owned(), "no properties"),
            ("<Blobs><Blob><Name>k</Name><Properties/></Blob></Blobs><NextMarker/>".to_owned(), "size"),
        ];
        for (inner, word) in table {
            let error = page(&inner).unwrap_err();
            assert!(error.contains(word), "{error} should say {word}");
        }
    }

    #[test]
    fn folders_are_no_objects() {
        let name = "<Name>k</Name>";
        for (properties, metadata, objects) in [
            ("", "", 1),
            ("<ResourceType>file</ResourceType>", "<hdi_isfolder>false</hdi_isfolder>", 1),
            ("<ResourceType>directory</ResourceType>", "", 0),
            ("", "<hdi_isfolder>true</hdi_isfolder>", 0),
            ("", "<Hdi_isfolder>True</Hdi_isfolder>", 0),
        ] {
            let page = page(&format!("<Blobs>{}</Blobs><NextMarker/>", blob(name, properties, metadata))).unwrap();
            assert_eq!(page.listed.len(), objects, "{properties} {metadata}");
        }
    }
}
