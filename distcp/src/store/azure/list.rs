//! Listing below the opened prefix with our own List Blobs: every key as the bytes it is, or an error.
//!
//! The next page is asked for while the last one is consumed. A listing that was cut short or makes no sense ends with an
//! error: what ended without one is whole. Whoever reads on after an error gets the same page again, or its error. No order is promised: accounts with folders list folder by folder, and no
//! document says in which order the others compare beyond ASCII; whoever needs an order sorts. Azure cannot start after a
//! key, so what comes before `after` is read and left out. Reads only; a crash leaves nothing.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::Method;
use manifest::{EntryKind, Fingerprint, Listed, ObjectKey};
use percent_encoding::percent_decode_str;
use tokio::task::JoinSet;

use super::attributes::marks_folder;
use super::client::{Call, Client};
use crate::store::wire::{http_date_ns, unquoted};
use crate::store::xml::{self, Element};
use crate::store::{ListOptions, Result, StoreError, StoreErrorKind};

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

/// What is listed.
struct Listing {
    client: Arc<Client>,
    prefix: ObjectKey,
    options: ListOptions,
}

/// How far a listing is.
struct Lister {
    listing: Arc<Listing>,
    /// The page that comes next: its marker, none for the first; `None` at the end.
    next: Option<Option<String>>,
    /// That page, asked for. It ends with the listing.
    ahead: JoinSet<Result<Page>>,
}

/// Lists all keys below `prefix`. See [`crate::store::Store::list`]. After an error the same page is asked for again.
pub(super) fn list(
    client: Arc<Client>,
    prefix: ObjectKey,
    options: ListOptions,
) -> BoxStream<'static, Result<Vec<Listed>>> {
    let listing = Arc::new(Listing { client, prefix, options });
    let lister = Lister { listing, next: Some(None), ahead: JoinSet::new() };
    stream::unfold(lister, |mut lister| async move { lister.page().await.map(|page| (page, lister)) }).boxed()
}

impl Lister {
    async fn page(&mut self) -> Option<Result<Vec<Listed>>> {
        loop {
            let marker = self.next.clone()?;
            if self.ahead.is_empty() {
                self.ask(marker.clone());
            }
            let page = match self.ahead.join_next().await? {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => return Some(Err(error)),
                Err(lost) if lost.is_panic() => std::panic::resume_unwind(lost.into_panic()),
                Err(_) => return Some(Err(self.listing.fail(StoreErrorKind::Cancelled, "it was cancelled"))),
            };
            if page.marker.is_some() && page.marker == marker {
                self.next = None;
                let detail = "the same page is announced again and again";
                return Some(Err(self.listing.fail(StoreErrorKind::Protocol, detail)));
            }
            self.next = page.marker.map(Some);
            if let Some(marker) = &self.next {
                self.ask(marker.clone());
            }
            let batch: Result<Vec<Listed>> =
                page.listed.into_iter().filter_map(|listed| self.listing.relative(listed).transpose()).collect();
            match batch {
                Ok(batch) if batch.is_empty() => {}
                batch => {
                    if batch.is_err() {
                        self.next = None;
                    }
                    return Some(batch);
                }
            }
        }
    }

    fn ask(&mut self, marker: Option<String>) {
        let listing = Arc::clone(&self.listing);
        self.ahead.spawn(async move { listing.fetch(marker.as_deref()).await });
    }
}

impl Listing {
    fn fail(&self, kind: StoreErrorKind, detail: impl Into<String>) -> StoreError {
        self.client.error("list", None, kind, detail.into())
    }

    /// What all names begin with.
    fn beginning(&self) -> Result<String> {
        let text = |key: &ObjectKey| match key.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(self.fail(StoreErrorKind::InvalidKey, format!("names of blobs are UTF-8, not {key}"))),
        };
        let folder = if self.prefix.is_empty() { String::new() } else { format!("{}/", text(&self.prefix)?) };
        let starting = self.options.starting.as_ref().map(text).transpose()?.unwrap_or_default();
        Ok(folder + &starting)
    }

    async fn fetch(&self, marker: Option<&str>) -> Result<Page> {
        let mut call = Call::container("list", Method::GET)
            .query("comp", "list")
            .query("include", "metadata")
            .query("maxresults", PAGE_KEYS);
        let beginning = self.beginning()?;
        if !beginning.is_empty() {
            call = call.query("prefix", beginning);
        }
        if self.options.level {
            call = call.query("delimiter", "/");
        }
        if let Some(marker) = marker {
            call = call.query("marker", marker);
        }
        let response = self.client.expect(&call, &[200]).await.map_err(|mut error| {
            // Nothing but the container was asked for.
            if error.kind == StoreErrorKind::NotFound {
                error.kind = StoreErrorKind::NoBucket;
            }
            error
        })?;
        let (_, root) = self.client.xml(&call, response, "EnumerationResults").await?;
        read_page(&root).map_err(|detail| self.fail(StoreErrorKind::Protocol, detail))
    }

    /// The entry below the opened prefix; `None` for what is left out.
    fn relative(&self, mut listed: Listed) -> Result<Option<Listed>> {
        let Some(rest) = listed.key.strip_prefix(&self.prefix) else {
            let detail = format!("the listing of {} holds {}, which does not lie below", self.prefix, listed.key);
            return Err(self.fail(StoreErrorKind::Protocol, detail));
        };
        // The marker object of the root itself has no name below the root.
        if rest.is_empty()
            || self.options.after.as_ref().is_some_and(|after| rest <= *after)
            || self.options.without.iter().any(|folder| rest.is_within(folder))
        {
            return Ok(None);
        }
        listed.key = rest;
        Ok(Some(listed))
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
    for folder in blobs.all("BlobPrefix") {
        let name = name_of(folder)?;
        let key = name.as_bytes().strip_suffix(b"/").ok_or_else(|| format!("the folder {name} has no slash"))?;
        let (kind, fingerprint) = (EntryKind::Folder, Fingerprint::default());
        listed.push(Listed { key: key.to_vec().into(), kind, fingerprint });
    }
    for blob in blobs.all("Blob") {
        let key = name_of(blob)?;
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

fn name_of(entry: &Element) -> Result<ObjectKey, String> {
    let name = entry.child("Name").filter(|name| !name.text.is_empty()).ok_or("a blob of the listing has no name")?;
    Ok(match name.encoded {
        true => ObjectKey::from(percent_decode_str(&name.text).collect::<Vec<u8>>()),
        false => ObjectKey::from(name.text.as_str()),
    })
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
