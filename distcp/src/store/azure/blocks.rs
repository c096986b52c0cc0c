//! Uploads in parts as blocks: a CRC with every block, and the block list that makes them the object in one step.
//!
//! Azure knows no upload: a blob has uncommitted blocks, whoever sent them. So the name of a block holds the upload it
//! belongs to (a random id of ours), the part's number and the CRC of its bytes, which the service has checked on
//! arrival (of a block that the service copied: the version and range that it copied): two uploads do not mix, and a part that is listed is known by its content. An upload begins with a block of its
//! own that is never committed. There is nothing to delete when one is given up: a last block says so, and uncommitted
//! blocks expire after a week, or with the next write of the object. A crash leaves an upload that the caller's journal
//! names.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, Method};
use manifest::ObjectKey;

use super::AzureStore;
use super::client::Call;
use crate::store::s3::checksum::md5_base64;
use crate::store::wire::{set, text_of, unquoted};
use crate::store::{
    CopySource, PartSpec, Payload, Precondition, Proof, PutOptions, Result, StoreError, StoreErrorKind, UploadId,
    UploadedPart, Written,
};

/// Parts of one upload, at most. Azure takes 50,000; the journal and other stores do not.
const MAX_PARTS: u32 = 10_000;
/// The largest block: 4,000 MiB.
const MAX_BLOCK_BYTES: u64 = 4000 << 20;
/// The number of the block by which an upload begins.
const BEGUN: u32 = 0;
/// The number of the block by which an upload is given up.
const GIVEN_UP: u32 = 99_999;
/// The content of those two: a block cannot be empty.
const MARK: &[u8] = b"-";
/// Digits of an upload's id.
const ID_DIGITS: usize = 32;
/// Uploads given up by this store that it remembers, so that it sends them nothing more.
const REMEMBERED: usize = 1024;

/// The name of a block of ours. All names have one length, which Azure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block<'a> {
    upload: &'a str,
    number: u32,
    /// The CRC of its bytes; of a copied block, that of the version and range it is a copy of.
    content: u64,
}

impl<'a> Block<'a> {
    fn name(self) -> String {
        format!("{}-{:05}-{:016x}", self.upload, self.number, self.content)
    }

    /// The name as Azure wants it.
    fn id(self) -> String {
        BASE64.encode(self.name())
    }

    fn parse(name: &'a str) -> Option<Self> {
        let mut fields = name.split('-');
        let (upload, number, crc) = (fields.next()?, fields.next()?, fields.next()?);
        let block = Self { upload, number: number.parse().ok()?, content: u64::from_str_radix(crc, 16).ok()? };
        (block.name() == name).then_some(block)
    }
}

/// The uploads that this store gave up, the latest of them.
#[derive(Debug, Default)]
pub(super) struct GivenUp(Mutex<VecDeque<UploadId>>);

impl GivenUp {
    fn add(&self, upload: &UploadId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back(upload.clone());
    }

    fn holds(&self, upload: &UploadId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(upload)
    }
}

/// The blocks of a blob.
#[derive(Debug, Default)]
struct BlockList {
    /// Decoded names, in the order of the object's bytes.
    committed: Vec<String>,
    /// Decoded names and lengths.
    uncommitted: HashMap<String, u64>,
    /// Of the committed blob.
    headers: HeaderMap,
}

impl BlockList {
    /// Whether the upload was begun here and not given up.
    fn knows(&self, upload: &str) -> bool {
        let mark = |number| self.uncommitted.contains_key(&Block { upload, number, content: 0 }.name());
        mark(BEGUN) && !mark(GIVEN_UP)
    }
}

impl AzureStore {
    pub(super) async fn begin_blocks(
        &self,
        key: &ObjectKey,
        _size_bytes: u64,
        options: &PutOptions,
    ) -> Result<UploadId> {
        let operation = "begin an upload of";
        // What the end will refuse is refused before the bytes are sent.
        self.write_headers(operation, key, options, &mut HeaderMap::new())?;
        let full = self.writable_key(operation, key).await?;
        let upload = format!("{:032x}", rand::random::<u128>());
        self.mark(operation, key, &full, &upload, BEGUN).await?;
        Ok(UploadId(upload))
    }

    /// Sends one of the two blocks that are never committed.
    async fn mark(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        full: &str,
        upload: &str,
        number: u32,
    ) -> Result<()> {
        let mut call = Call::object(operation, Method::PUT, key, full)
            .query("comp", "block")
            .query("blockid", Block { upload, number, content: 0 }.id());
        call.body = Bytes::from_static(MARK);
        let response = self.client.expect(&call, &[201]).await?;
        self.client.drain(&call, response).await.map(drop)
    }

    pub(super) async fn put_block(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        let operation = "write a part of";
        let full = self.full_key(operation, key)?;
        self.is_ours(operation, key, upload)?;
        if body.len() as u64 != part.size_bytes {
            let detail = format!("part {} has {} bytes, not {}", part.number, body.len(), part.size_bytes);
            return Err(self.error(operation, key, StoreErrorKind::Other, detail));
        }
        self.may_send(operation, key, upload, part)?;
        let block = Block { upload: &upload.0, number: part.number, content: body.crc64nvme() };
        let mut call =
            Call::object(operation, Method::PUT, key, &full).query("comp", "block").query("blockid", block.id());
        // The CRC that was taken when the bytes were read: the service finds damage since, and names what it computed.
        let crc64 = BASE64.encode(body.crc64nvme().to_le_bytes());
        set(&mut call.headers, "x-ms-content-crc64", &crc64);
        call.body = body.bytes().clone();
        let response = self.client.expect(&call, &[201]).await?;
        let headers = self.client.drain(&call, response).await?;
        let echoed = text_of(&headers, "x-ms-content-crc64") == Some(&crc64);
        let proof = if echoed { Proof::Checksum } else { Proof::None };
        Ok(UploadedPart { part, etag: etag_of(block.content), checksum: String::new(), proof })
    }

    pub(super) async fn put_block_from_url(
        &self,
        source: &CopySource<'_>,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        let operation = "copy a part of";
        let full = self.full_key(operation, key)?;
        self.is_ours(operation, key, upload)?;
        self.may_send(operation, key, upload, part)?;
        let Some(last) = (part.offset + part.size_bytes).checked_sub(1).filter(|_| part.size_bytes > 0) else {
            return Err(self.error(operation, key, StoreErrorKind::Other, "a copied part cannot be empty"));
        };
        let (from, source_key, etag) = self.copy_source(operation, source)?;
        // Nothing here has seen the bytes: the block is named after the version and the range that it is a copy of.
        let of = format!("{etag}\n{}\n{last}", part.offset);
        let block = Block { upload: &upload.0, number: part.number, content: Payload::new(of.into()).crc64nvme() };
        let mut call =
            Call::object(operation, Method::PUT, key, &full).query("comp", "block").query("blockid", block.id());
        call.copied_bytes = part.size_bytes;
        self.client.copy_from(&mut call, from, &source_key, false).await?;
        set(&mut call.headers, "x-ms-source-if-match", &format!("\"{etag}\""));
        set(&mut call.headers, "x-ms-source-range", &format!("bytes={}-{last}", part.offset));
        let response = self.client.expect(&call, &[201]).await?;
        self.client.drain(&call, response).await?;
        Ok(UploadedPart { part, etag: etag_of(block.content), checksum: String::new(), proof: Proof::None })
    }

    /// Whether a part can be one, of an upload that was not given up.
    fn may_send(&self, operation: &'static str, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<()> {
        if part.size_bytes > MAX_BLOCK_BYTES || !(1..=MAX_PARTS).contains(&part.number) {
            let detail = format!("parts have at most {MAX_BLOCK_BYTES} bytes and numbers up to {MAX_PARTS}");
            return Err(self.error(operation, key, StoreErrorKind::Unsupported, detail));
        }
        match self.given_up.holds(upload) {
            true => Err(self.gone(operation, key)),
            false => Ok(()),
        }
    }

    /// The parts that the service holds. Their offsets suppose that all parts but the last are as long as the longest. A
    /// part that came twice with different bytes is left out: which of them is meant is not known, so it is sent again.
    pub(super) async fn list_blocks(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        let operation = "list the parts of";
        self.is_ours(operation, key, upload)?;
        let list = self.block_list(operation, key, "uncommitted").await?;
        if !list.knows(&upload.0) {
            return Err(self.gone(operation, key));
        }
        let mut found: BTreeMap<u32, Option<UploadedPart>> = BTreeMap::new();
        for (name, size_bytes) in &list.uncommitted {
            let Some(block) = Block::parse(name).filter(|block| block.upload == upload.0) else { continue };
            if block.number == BEGUN {
                continue;
            }
            let part = PartSpec { number: block.number, offset: 0, size_bytes: *size_bytes };
            let part = UploadedPart { part, etag: etag_of(block.content), checksum: String::new(), proof: Proof::None };
            found.entry(block.number).and_modify(|twice| *twice = None).or_insert(Some(part));
        }
        let longest = found.values().flatten().map(|part| part.part.size_bytes).max().unwrap_or(0);
        let mut parts: Vec<UploadedPart> = found.into_values().flatten().collect();
        for part in &mut parts {
            part.part.offset = u64::from(part.part.number.saturating_sub(1)).saturating_mul(longest);
        }
        Ok(parts)
    }

    pub(super) async fn commit_blocks(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let operation = "finish the upload of";
        let full = self.full_key(operation, key)?;
        self.is_ours(operation, key, upload)?;
        let mut sorted: Vec<&UploadedPart> = parts.iter().collect();
        sorted.sort_by_key(|part| part.part.number);
        let mut names = Vec::with_capacity(sorted.len());
        for part in &sorted {
            let content = u64::from_str_radix(&part.etag, 16).map_err(|_| {
                let detail = format!("part {} is not known by its content", part.part.number);
                self.error(operation, key, StoreErrorKind::Other, detail)
            })?;
            names.push(Block { upload: &upload.0, number: part.part.number, content }.name());
        }
        let size_bytes: u64 = sorted.iter().map(|part| part.part.size_bytes).sum();
        let proven = sorted.iter().all(|part| part.proof != Proof::None);
        let proof = if proven { Proof::Checksum } else { Proof::None };

        let list = self.block_list(operation, key, "all").await?;
        if !list.knows(&upload.0) {
            // An answer that was lost: the blocks of this upload, all of them and no others, are the object.
            if !names.is_empty() && list.committed == names {
                return Ok(Written { fingerprint: self.written(operation, key, size_bytes, &list.headers)?, proof });
            }
            return Err(self.gone_or_refused(operation, key, options, &list).await);
        }
        for (name, part) in names.iter().zip(&sorted) {
            if list.uncommitted.get(name) != Some(&part.part.size_bytes) {
                let detail = format!("part {} is not held as it was sent", part.part.number);
                return Err(self.error(operation, key, StoreErrorKind::NotFound, detail));
            }
        }
        let mut body = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for name in &names {
            // Writing to a String does not fail.
            let _ = write!(body, "<Uncommitted>{}</Uncommitted>", BASE64.encode(name));
        }
        body.push_str("</BlockList>");
        let mut call = Call::object(operation, Method::PUT, key, &full).query("comp", "blocklist");
        self.write_headers(operation, key, options, &mut call.headers)?;
        call.conditional = self.condition(operation, key, &options.precondition, &mut call.headers)?;
        set(&mut call.headers, "content-type", "application/xml");
        set(&mut call.headers, "content-md5", &md5_base64(body.as_bytes()));
        call.body = Bytes::from(body);
        let response = self.client.expect(&call, &[201]).await?;
        let headers = self.client.drain(&call, response).await?;
        Ok(Written { fingerprint: self.written(operation, key, size_bytes, &headers)?, proof })
    }

    pub(super) async fn give_up_blocks(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let operation = "give up the upload of";
        let full = self.full_key(operation, key)?;
        if self.is_ours(operation, key, upload).is_err() {
            return Ok(());
        }
        self.given_up.add(upload);
        match self.block_list(operation, key, "uncommitted").await {
            // Marked where it is, not where it would bring a blob without content into being.
            Ok(list) if list.knows(&upload.0) => self.mark(operation, key, &full, &upload.0, GIVEN_UP).await,
            Ok(_) => Ok(()),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Why an upload cannot be finished that is not there: an object that must not be there took it away, or nobody knows
    /// it.
    async fn gone_or_refused(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        options: &PutOptions,
        list: &BlockList,
    ) -> StoreError {
        let found = text_of(&list.headers, "etag").map(unquoted);
        let refused = match &options.precondition {
            Precondition::Any => false,
            Precondition::Absent => found.is_some(),
            Precondition::Matches(wanted) => found.is_some() && found != wanted.etag.as_deref(),
        };
        match refused {
            true => self.error(operation, key, StoreErrorKind::Precondition, "another wrote to it meanwhile"),
            false => self.gone(operation, key),
        }
    }

    /// The blocks of an object, of one kind or `all`; none where there is no such blob.
    async fn block_list(&self, operation: &'static str, key: &ObjectKey, kind: &str) -> Result<BlockList> {
        let full = self.full_key(operation, key)?;
        let call =
            Call::object(operation, Method::GET, key, &full).query("comp", "blocklist").query("blocklisttype", kind);
        let response = match self.client.expect(&call, &[200]).await {
            Ok(response) => response,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(BlockList::default()),
            Err(error) => return Err(error),
        };
        let (headers, root) = self.client.xml(&call, response, "BlockList").await?;
        let protocol = |detail: &str| self.error(operation, key, StoreErrorKind::Protocol, detail);
        let blocks = |kind: &str| -> Result<Vec<(String, u64)>> {
            let Some(list) = root.child(kind) else { return Ok(Vec::new()) };
            list.all("Block")
                .map(|block| {
                    let name = BASE64.decode(block.text_of("Name").unwrap_or_default().trim());
                    let name = name.map_err(|_| protocol("a block has no name"))?;
                    let size = block.text_of("Size").and_then(|size| size.trim().parse().ok());
                    // Names of others may be no text; they only have to be different from ours.
                    Ok((
                        String::from_utf8_lossy(&name).into_owned(),
                        size.ok_or_else(|| protocol("a block has no size"))?,
                    ))
                })
                .collect()
        };
        Ok(BlockList {
            committed: blocks("CommittedBlocks")?.into_iter().map(|(name, _)| name).collect(),
            uncommitted: blocks("UncommittedBlocks")?.into_iter().collect(),
            headers,
        })
    }

    /// Whether an id has the form of ours: no other can be in the names of blocks.
    fn is_ours(&self, operation: &'static str, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let digits = upload.0.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if upload.0.len() == ID_DIGITS && digits { Ok(()) } else { Err(self.gone(operation, key)) }
    }

    fn gone(&self, operation: &'static str, key: &ObjectKey) -> StoreError {
        self.error(operation, key, StoreErrorKind::NotFound, "no such upload")
    }
}

/// What a part is known by: what its block's name says of its content.
fn etag_of(content: u64) -> String {
    format!("{content:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_blocks_have_one_length_and_come_back() {
        let upload = "0123456789abcdef0123456789abcdef";
        let mut lengths = std::collections::BTreeSet::new();
        for (number, content) in [(BEGUN, 0), (1, u64::MAX), (MAX_PARTS, 7), (GIVEN_UP, 0)] {
            let block = Block { upload, number, content };
            assert_eq!(Block::parse(&block.name()), Some(block));
            lengths.insert(block.id().len());
            assert!(block.name().len() <= 64, "Azure's limit");
        }
        assert_eq!(lengths.len(), 1);
        for other in ["", "a-b-c", "block-00001-0", "x-1-0000000000000000", "x-00001-0000000000000000-y"] {
            assert_eq!(Block::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn an_upload_lives_from_its_first_block_to_its_last() {
        let mut list = BlockList::default();
        assert!(!list.knows("u"));
        let mark = |number| (Block { upload: "u", number, content: 0 }.name(), 1);
        list.uncommitted.extend([mark(BEGUN), mark(5)]);
        assert!(list.knows("u") && !list.knows("v"));
        list.uncommitted.extend([mark(GIVEN_UP)]);
        assert!(!list.knows("u"));
    }

    #[test]
    fn what_was_given_up_is_remembered_within_bounds() {
        let given_up = GivenUp::default();
        for i in 0..=REMEMBERED {
            given_up.add(&UploadId(i.to_string()));
        }
        assert!(!given_up.holds(&UploadId("0".into())) && given_up.holds(&UploadId("1".into())));
        assert_eq!(given_up.0.lock().unwrap().len(), REMEMBERED);
    }
}
