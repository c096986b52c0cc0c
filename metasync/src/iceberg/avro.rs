//! Avro container files in which some values are exchanged: the rest is the same bytes.
//!
//! Pure. The header is kept as it is, writer schema, user metadata, codec and sync marker with it; each block is unpacked, walked
//! by the schema, and packed again. No library does it so: they decode whole values, write their own idea of the schema, and
//! draw a new marker each time. Tests read what comes out with one. The form: avro.apache.org/docs/1.12.0/specification.

use super::Result;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::io::{Read as _, Write as _};

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;
/// The mark of the outermost record.
pub const ROOT: u8 = u8::MAX;
/// Values inside each other.
const MAX_DEPTH: usize = 64;
/// What Iceberg's writers ask of zstandard.
const ZSTD_LEVEL: i32 = 1;

/// A value that a visitor asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    /// Of an int or a long.
    Number(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// What a value is exchanged for: of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum New {
    Number(i64),
    Text(String),
}

/// Which values matter, and what they become.
pub trait Visit {
    /// The mark of a field of a record that has this mark (the outermost has [`ROOT`]) by its id and name; 0: nothing in it matters.
    fn mark(&self, record: u8, id: Option<i64>, name: &str) -> u8;
    /// A value of a marked field.
    fn value(&mut self, mark: u8, value: Value<'_>) -> Result<Option<New>>;
    /// The end of an outermost record.
    fn end(&mut self) -> Result<()>;
}

/// The same file with other values. `limit`: bytes that its blocks may come to when they are unpacked.
pub fn rewrite(file: &[u8], limit: u64, visit: &mut dyn Visit) -> Result<Vec<u8>> {
    let mut input = Input { bytes: file, at: 0 };
    if input.take(MAGIC.len())? != MAGIC {
        return Err("it is no Avro file".to_owned());
    }
    let (mut schema, mut codec) = (None, Codec::Null);
    loop {
        let count = input.block()?;
        if count == 0 {
            break;
        }
        for _ in 0..count {
            let key = input.counted()?;
            let value = input.counted()?;
            match key {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = Codec::of(value)?,
                _ => {}
            }
        }
    }
    let schema = schema.ok_or("it has no schema")?;
    let schema: Json = serde_json::from_slice(schema).map_err(|error| format!("its schema is no JSON: {error}"))?;
    let mut types = Types { nodes: Vec::new(), named: HashMap::new(), visit };
    let root = types.add(&schema, ROOT, "")?;
    let nodes = std::mem::take(&mut types.nodes);
    let sync = input.take(SYNC_BYTES)?;
    let mut out = file.get(..input.at).unwrap_or_default().to_vec();
    let mut left = limit;
    while input.at < file.len() {
        let (count, packed) = (input.number()?, input.counted()?);
        if input.take(SYNC_BYTES)? != sync {
            return Err("a block of it ends without its marker".to_owned());
        }
        let block = codec.unpack(packed, left)?;
        left = left.saturating_sub(block.len() as u64);
        let mut walk = Walk { nodes: &nodes, input: Input { bytes: &block, at: 0 }, out: Vec::new(), copied: 0, visit };
        for _ in 0..count {
            let before = walk.input.at;
            walk.value(root, 0, 0)?;
            if walk.input.at == before {
                return Err("it has records of nothing".to_owned());
            }
            walk.visit.end()?;
        }
        let fresh = walk.done()?;
        let packed = codec.pack(&fresh)?;
        put_number(&mut out, count);
        put_number(&mut out, packed.len() as i64);
        out.extend_from_slice(&packed);
        out.extend_from_slice(sync);
    }
    Ok(out)
}

enum Codec {
    Null,
    Deflate,
    Zstandard,
}

impl Codec {
    fn of(name: &[u8]) -> Result<Self> {
        match name {
            b"null" => Ok(Self::Null),
            b"deflate" => Ok(Self::Deflate),
            b"zstandard" => Ok(Self::Zstandard),
            other => Err(format!("its codec {} is not known", String::from_utf8_lossy(other))),
        }
    }

    fn unpack(&self, packed: &[u8], limit: u64) -> Result<Vec<u8>> {
        let mut block = Vec::new();
        let read = match self {
            Self::Null => packed.take(limit + 1).read_to_end(&mut block),
            Self::Deflate => flate2::read::DeflateDecoder::new(packed).take(limit + 1).read_to_end(&mut block),
            Self::Zstandard => zstd::Decoder::new(packed)
                .and_then(|decoder| decoder.take(limit.saturating_add(1)).read_to_end(&mut block)),
        };
        read.map_err(|error| format!("a block of it cannot be unpacked: {error}"))?;
        match block.len() as u64 > limit {
            true => Err("it is larger than what is rewritten".to_owned()),
            false => Ok(block),
        }
    }

    fn pack(&self, block: &[u8]) -> Result<Vec<u8>> {
        let packed = match self {
            Self::Null => Ok(block.to_vec()),
            Self::Deflate => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(block).and_then(|()| encoder.finish())
            }
            Self::Zstandard => zstd::encode_all(block, ZSTD_LEVEL),
        };
        packed.map_err(|error| format!("a block of it cannot be packed: {error}"))
    }
}

/// Types by their place; those of records by their fields.
enum Node {
    Null,
    Boolean,
    Number,
    Fixed(usize),
    Bytes,
    Text,
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(u8, usize)>),
}

struct Types<'v> {
    nodes: Vec<Node>,
    named: HashMap<String, usize>,
    visit: &'v dyn Visit,
}

impl Types<'_> {
    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Recursion ends where that of the JSON does.
    fn add(&mut self, schema: &Json, record: u8, space: &str) -> Result<usize> {
        let lacks = |what: &str| format!("a type of its schema has no {what}");
        match schema {
            Json::String(name) => self.by_name(name, space),
            Json::Array(branches) => {
                let branches: Result<Vec<usize>> =
                    branches.iter().map(|branch| self.add(branch, record, space)).collect();
                Ok(self.push(Node::Union(branches?)))
            }
            Json::Object(fields) => {
                let kind = fields.get("type").ok_or_else(|| lacks("type"))?;
                let Json::String(kind) = kind else { return self.add(kind, record, space) };
                let name = |fields: &serde_json::Map<String, Json>| {
                    let name = fields.get("name").and_then(Json::as_str).ok_or_else(|| lacks("name"))?;
                    let own = fields.get("namespace").and_then(Json::as_str).unwrap_or(space);
                    Ok::<_, String>(full(name, own))
                };
                match kind.as_str() {
                    "array" => {
                        let items = self.add(fields.get("items").ok_or_else(|| lacks("items"))?, 0, space)?;
                        Ok(self.push(Node::Array(items)))
                    }
                    "map" => {
                        let values = self.add(fields.get("values").ok_or_else(|| lacks("values"))?, 0, space)?;
                        Ok(self.push(Node::Map(values)))
                    }
                    "fixed" => {
                        let size = fields.get("size").and_then(Json::as_u64).ok_or_else(|| lacks("size"))?;
                        let size = usize::try_from(size).map_err(|error| error.to_string())?;
                        let at = self.push(Node::Fixed(size));
                        self.named.insert(name(fields)?, at);
                        Ok(at)
                    }
                    "enum" => {
                        let at = self.push(Node::Number);
                        self.named.insert(name(fields)?, at);
                        Ok(at)
                    }
                    "record" => self.record(fields, &name(fields)?, record),
                    other => self.by_name(other, space),
                }
            }
            _ => Err("a type of its schema is none".to_owned()),
        }
    }

    fn record(&mut self, fields: &serde_json::Map<String, Json>, name: &str, mark: u8) -> Result<usize> {
        let at = self.push(Node::Record(Vec::new()));
        // What it names by itself, or is named by later, has its mark.
        self.named.insert(name.to_owned(), at);
        let space = name.rsplit_once('.').map_or("", |(space, _)| space);
        let mut found = Vec::new();
        for field in fields.get("fields").and_then(Json::as_array).ok_or("a record of its schema has no fields")? {
            let named = field.get("name").and_then(Json::as_str).ok_or("a field of its schema has no name")?;
            let id = field.get("field-id").and_then(Json::as_i64);
            let inner = if mark == 0 { 0 } else { self.visit.mark(mark, id, named) };
            let of_type = field.get("type").ok_or("a field of its schema has no type")?;
            found.push((inner, self.add(of_type, inner, space)?));
        }
        self.nodes[at] = Node::Record(found);
        Ok(at)
    }

    fn by_name(&mut self, name: &str, space: &str) -> Result<usize> {
        let node = match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" | "long" => Node::Number,
            "float" => Node::Fixed(4),
            "double" => Node::Fixed(8),
            "bytes" => Node::Bytes,
            "string" => Node::Text,
            other => {
                let known = self.named.get(&full(other, space)).or_else(|| self.named.get(other));
                return known.copied().ok_or_else(|| format!("its schema does not say what {other} is"));
            }
        };
        Ok(self.push(node))
    }
}

fn full(name: &str, space: &str) -> String {
    match space.is_empty() || name.contains('.') {
        true => name.to_owned(),
        false => format!("{space}.{name}"),
    }
}

/// Values of one block on their way from the input to the output.
struct Walk<'a> {
    nodes: &'a [Node],
    input: Input<'a>,
    out: Vec<u8>,
    /// Up to where the input is in the output.
    copied: usize,
    visit: &'a mut dyn Visit,
}

impl Walk<'_> {
    fn value(&mut self, node: usize, mark: u8, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err("its values are too deep inside each other".to_owned());
        }
        let nodes = self.nodes;
        let start = self.input.at;
        match &nodes[node] {
            Node::Null => self.tell(mark, Value::Null, start),
            Node::Boolean => self.input.take(1).map(|_| ()),
            Node::Number => {
                let number = self.input.number()?;
                self.tell(mark, Value::Number(number), start)
            }
            Node::Fixed(size) => self.input.take(*size).map(|_| ()),
            Node::Bytes => {
                let bytes = self.input.counted()?;
                self.tell(mark, Value::Bytes(bytes), start)
            }
            Node::Text => {
                let text = std::str::from_utf8(self.input.counted()?).map_err(|error| error.to_string())?;
                self.tell(mark, Value::Text(text), start)
            }
            Node::Union(branches) => {
                let branch = usize::try_from(self.input.number()?).ok().and_then(|branch| branches.get(branch));
                self.value(*branch.ok_or("a value of it is of no type")?, mark, depth + 1)
            }
            Node::Record(fields) => fields.iter().try_for_each(|(mark, node)| self.value(*node, *mark, depth + 1)),
            Node::Array(items) => self.items(false, *items, depth),
            Node::Map(values) => self.items(true, *values, depth),
        }
    }

    /// What is in arrays and maps is counted by nobody: marks end here.
    fn items(&mut self, has_keys: bool, node: usize, depth: usize) -> Result<()> {
        loop {
            let count = self.input.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                let before = self.input.at;
                if has_keys {
                    self.input.counted()?;
                }
                self.value(node, 0, depth + 1)?;
                if self.input.at == before {
                    return Err("it has a list of nothing".to_owned());
                }
            }
        }
    }

    fn tell(&mut self, mark: u8, value: Value<'_>, start: usize) -> Result<()> {
        if mark == 0 {
            return Ok(());
        }
        let Some(new) = self.visit.value(mark, value)? else { return Ok(()) };
        self.out.extend_from_slice(self.input.bytes.get(self.copied..start).unwrap_or_default());
        self.copied = self.input.at;
        match (new, value) {
            (New::Number(number), Value::Number(_)) => put_number(&mut self.out, number),
            (New::Text(text), Value::Text(_)) => {
                put_number(&mut self.out, text.len() as i64);
                self.out.extend_from_slice(text.as_bytes());
            }
            _ => return Err("a field of it has another type than it should have".to_owned()),
        }
        Ok(())
    }

    fn done(mut self) -> Result<Vec<u8>> {
        if self.input.at != self.input.bytes.len() {
            return Err("a block of it holds more than its records".to_owned());
        }
        self.out.extend_from_slice(self.input.bytes.get(self.copied..).unwrap_or_default());
        Ok(self.out)
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or("it is cut off")?;
        let taken = self.bytes.get(self.at..end).ok_or("it is cut off")?;
        self.at = end;
        Ok(taken)
    }

    /// A zigzag number of up to ten bytes.
    fn number(&mut self) -> Result<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or("it is cut off")?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(((value >> 1) as i64) ^ -((value & 1) as i64));
            }
        }
        Err("a number of it has no end".to_owned())
    }

    fn counted(&mut self) -> Result<&'a [u8]> {
        let count = usize::try_from(self.number()?).map_err(|_| "a length of it is negative")?;
        self.take(count)
    }

    /// How many items follow in a block of an array or a map. A negative count is followed by the block's size in bytes, which
    /// would have to be kept right: none of Iceberg's writers puts one around what is exchanged, and marks end at lists.
    fn block(&mut self) -> Result<u64> {
        let count = self.number()?;
        if count < 0 {
            self.number()?;
        }
        Ok(count.unsigned_abs())
    }
}

fn put_number(out: &mut Vec<u8>, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}
