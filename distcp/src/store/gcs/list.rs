//! Listing below the opened prefix by the JSON API: every name as it is, in order, with its generation.
//!
//! The next page is asked for while the last one is consumed. A listing that was cut short, came out of order or makes no
//! sense ends with an error: what ended without one is whole. Reads only; a crash leaves nothing.

use std::sync::Arc;

use futures::stream::BoxStream;
use manifest::{Listed, ObjectKey};
use serde::Deserialize;

use super::client::{Call, Client};
use super::resource::{LISTED, Resource};
use crate::store::wire::{PageSender, cut, pages_ahead};
use crate::store::{ListOptions, Result, StoreErrorKind};

/// Keys a page: the most that the service gives.
const PAGE_KEYS: &str = "1000";
/// What a listing says that it is; a page of nothing says it, too.
const KIND: &str = "storage#objects";

/// One page. An empty one has no items.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Page {
    kind: String,
    next_page_token: Option<String>,
    items: Vec<Resource>,
}

/// Lists all keys below `prefix` after `options.after`. See [`crate::store::Store::list`].
pub(super) fn list(
    client: Arc<Client>,
    prefix: ObjectKey,
    options: ListOptions,
) -> BoxStream<'static, Result<Vec<Listed>>> {
    pages_ahead(move |sender| async move { pages(&client, &prefix, &options, &sender).await })
}

/// Whether a listing is answered as one.
pub(super) async fn read_kind(client: &Client, call: &Call<'_>) -> Result<()> {
    read_page(client, call).await.map(drop)
}

async fn read_page(client: &Client, call: &Call<'_>) -> Result<Page> {
    let page: Page = client.json(call).await?;
    // A page of nothing is an object without fields but this one: any other JSON must not look like an empty bucket.
    if page.kind != KIND {
        let detail = cut(&format!("the answer is a {:?}, not a {KIND:?}", page.kind));
        return Err(client.error(call.operation, None, StoreErrorKind::Protocol, detail));
    }
    Ok(page)
}

/// The keys of a page of a listing (objects.list) as it came over the network.
///
/// # Errors
/// What is wrong with it, in words: a page is read whole or not at all.
pub fn read_listing(page: &[u8]) -> Result<Vec<ObjectKey>, String> {
    let page: Page = serde_json::from_slice(page).map_err(|error| error.to_string())?;
    page.items.iter().map(|resource| resource.listed().map(|listed| listed.key)).collect()
}

async fn pages(client: &Client, prefix: &ObjectKey, options: &ListOptions, sender: &PageSender) -> Result<()> {
    let fail = |kind, detail: String| client.error("list", None, kind, detail);
    let text = |key: &ObjectKey| match key.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(fail(StoreErrorKind::InvalidKey, format!("names are UTF-8 there, not {key}"))),
    };
    let folder = if prefix.is_empty() { String::new() } else { format!("{}/", text(prefix)?) };
    // The service begins with this name, we after it.
    let start = match &options.after {
        Some(after) => Some(format!("{folder}{}", text(after)?)).filter(|start| !start.is_empty()),
        None => None,
    };
    let mut last: Option<ObjectKey> = None;
    let mut token: Option<String> = None;
    loop {
        let mut call = Call::list("list", &client.bucket).query("maxResults", PAGE_KEYS).query("fields", LISTED);
        if !folder.is_empty() {
            call = call.query("prefix", folder.clone());
        }
        if let Some(start) = &start {
            call = call.query("startOffset", start.clone());
        }
        if let Some(token) = &token {
            call = call.query("pageToken", token.clone());
        }
        let page = read_page(client, &call).await?;
        let mut batch = Vec::with_capacity(page.items.len());
        for resource in &page.items {
            let mut listed = resource.listed().map_err(|detail| fail(StoreErrorKind::Protocol, detail))?;
            if last.as_ref().is_some_and(|last| listed.key <= *last) {
                let before = last.as_ref().map(ToString::to_string).unwrap_or_default();
                let detail = format!("the listing is out of order: {} came after {before}", listed.key);
                return Err(fail(StoreErrorKind::Protocol, detail));
            }
            last = Some(listed.key.clone());
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
        let next = page.next_page_token.filter(|token| !token.is_empty());
        if next.is_some() && next == token {
            return Err(fail(StoreErrorKind::Protocol, "the same page is announced again and again".into()));
        }
        token = next;
        if !batch.is_empty() && sender.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
        if token.is_none() {
            return Ok(());
        }
    }
}
