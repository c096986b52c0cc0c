//! TBinary values: a bounded reader over bytes that are all there, writing, and unknown fields carried as bytes.
//!
//! The format: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-binary-protocol.md>. Numbers are big
//! endian; a field is its type, its id (i16) and its value; a struct ends with the type 0.

use std::collections::{BTreeMap, BTreeSet};

/// How deep structs and containers may stand in each other. Hive's own objects reach about 12.
pub const MAX_DEPTH: usize = 64;

/// The wire's number for each type of value.
#[allow(missing_docs)]
pub mod kind {
    pub const STOP: u8 = 0;
    pub const BOOL: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const DOUBLE: u8 = 4;
    pub const I16: u8 = 6;
    pub const I32: u8 = 8;
    pub const I64: u8 = 10;
    pub const STRING: u8 = 11;
    pub const STRUCT: u8 = 12;
    pub const MAP: u8 = 13;
    pub const SET: u8 = 14;
    pub const LIST: u8 = 15;
}

/// Bytes that are no TBinary value of the kind that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct DecodeError {
    /// The offset in what was decoded.
    pub at: usize,
    /// What is wrong there.
    pub what: Wrong,
}

/// What can be wrong with bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The bytes end inside a value.
    #[error("the message ends inside a value")]
    Truncated,
    /// A length or a count below zero.
    #[error("negative length {0}")]
    Negative(i32),
    /// A count that the bytes after it cannot hold.
    #[error("{0} elements where fewer bytes are left")]
    TooMany(u32),
    /// A type number that TBinary does not have.
    #[error("unknown type {0}")]
    Type(u8),
    /// Elements of another type than the IDL says.
    #[error("elements of type {found} where the type is {expected}")]
    Element {
        /// What the IDL says.
        expected: u8,
        /// What is there.
        found: u8,
    },
    /// Deeper than [`MAX_DEPTH`].
    #[error("values nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Text,
    /// No message begins like this.
    #[error("no Thrift message: it begins with {0:#010x}")]
    NoMessage(u32),
    /// Bytes after the end.
    #[error("bytes after the end of the value")]
    Trailing,
}

/// A value that TBinary can carry.
pub trait Wire: Sized {
    /// Its number in [`kind`].
    const TYPE: u8;
    /// Reads one.
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);
    /// Shows every [`Binary`] that the IDL names in it: other protocols than TBinary write bytes otherwise than words.
    fn each_binary(&mut self, _see: &mut dyn FnMut(&mut Binary)) {}
}

/// Decodes one value that is the whole of `bytes`.
pub fn from_bytes<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::read(&mut reader)?;
    if reader.at != bytes.len() {
        return Err(reader.wrong(Wrong::Trailing));
    }
    Ok(value)
}

/// The bytes of one value.
pub fn to_bytes<T: Wire>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

/// Appends a field, if it is there.
pub fn put_field<T: Wire>(out: &mut Vec<u8>, id: i16, value: Option<&T>) {
    if let Some(value) = value {
        out.push(T::TYPE);
        out.extend_from_slice(&id.to_be_bytes());
        value.write(out);
    }
}

/// Fields that the IDL does not name, or names with another type: type, id and value of each, as they came, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unknown(Vec<u8>);

impl Unknown {
    /// Takes bytes that [`Unknown::as_bytes`] gave.
    ///
    /// # Errors
    /// When they are not a row of whole fields.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        while reader.at < bytes.len() {
            match reader.field()? {
                Some(field) => reader.skip(field.kind)?,
                None => return Err(reader.wrong(Wrong::Type(kind::STOP))),
            }
        }
        Ok(Self(bytes))
    }

    /// The fields: type, id and value of each.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The fields, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Without the fields for which `keep` is false.
    ///
    /// # Errors
    /// Never for what this type holds: it checked the fields when it took them.
    pub fn retain(self, keep: impl Fn(&FieldHeader) -> bool) -> Result<Self, DecodeError> {
        let mut kept = Self::default();
        let mut reader = Reader::new(&self.0);
        while reader.at < self.0.len() {
            let Some(field) = reader.field()? else { break };
            match keep(&field) {
                true => reader.keep(&field, &mut kept)?,
                false => reader.skip(field.kind)?,
            }
        }
        Ok(kept)
    }

    /// No field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the fields; the writer of the struct ends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// Bytes, where a `String` would be refused when it is not text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binary(pub Vec<u8>);

/// What stands before a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldHeader {
    /// The id that the IDL gives the field.
    pub id: i16,
    /// The type of the value, see [`kind`].
    pub kind: u8,
    /// Where the header begins.
    start: usize,
}

/// Reads values from bytes that are all there.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// The offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// An error at this place.
    pub fn wrong(&self, what: Wrong) -> DecodeError {
        DecodeError { at: self.at, what }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.wrong(Wrong::Truncated))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    /// An unsigned number of four bytes.
    pub fn word(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    fn length(&mut self) -> Result<u32, DecodeError> {
        let start = self.at;
        let length = i32::from_be_bytes(self.array()?);
        u32::try_from(length).map_err(|_| DecodeError { at: start, what: Wrong::Negative(length) })
    }

    /// The bytes of a string or a binary.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        self.take(length as usize)
    }

    /// Text.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError { at: start, what: Wrong::Text })
    }

    /// Goes into a struct or a container.
    pub fn enter(&mut self) -> Result<(), DecodeError> {
        if self.depth == MAX_DEPTH {
            return Err(self.wrong(Wrong::TooDeep));
        }
        self.depth += 1;
        Ok(())
    }

    /// Comes out of it.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// The next field's header; `None` at the end of the struct.
    pub fn field(&mut self) -> Result<Option<FieldHeader>, DecodeError> {
        let start = self.at;
        let kind = self.byte()?;
        if kind == kind::STOP {
            return Ok(None);
        }
        Ok(Some(FieldHeader { kind, id: i16::from_be_bytes(self.array()?), start }))
    }

    /// The count of a container whose elements take at least one byte each, and the type that it says they have.
    fn sequence(&mut self, expected: u8) -> Result<u32, DecodeError> {
        let found = self.byte()?;
        let count = self.count(1)?;
        self.element(expected, found, count)?;
        Ok(count)
    }

    /// A count that the bytes left can hold at `least` bytes an element.
    fn count(&mut self, least: usize) -> Result<u32, DecodeError> {
        let count = self.length()?;
        let left = self.bytes.len() - self.at;
        if (count as usize).saturating_mul(least) > left {
            return Err(self.wrong(Wrong::TooMany(count)));
        }
        Ok(count)
    }

    /// Empty containers may say any type: some writers do.
    fn element(&self, expected: u8, found: u8, count: u32) -> Result<(), DecodeError> {
        if count > 0 && expected != found {
            return Err(self.wrong(Wrong::Element { expected, found }));
        }
        Ok(())
    }

    /// Passes over a value and keeps the whole field.
    pub fn keep(&mut self, field: &FieldHeader, unknown: &mut Unknown) -> Result<(), DecodeError> {
        self.skip(field.kind)?;
        unknown.0.extend_from_slice(&self.bytes[field.start..self.at]);
        Ok(())
    }

    /// Passes over a value of any type.
    pub fn skip(&mut self, of: u8) -> Result<(), DecodeError> {
        match of {
            kind::BOOL | kind::BYTE => self.take(1).map(|_| ()),
            kind::I16 => self.take(2).map(|_| ()),
            kind::I32 => self.take(4).map(|_| ()),
            kind::I64 | kind::DOUBLE => self.take(8).map(|_| ()),
            kind::STRING => self.bytes().map(|_| ()),
            kind::STRUCT => {
                self.enter()?;
                while let Some(field) = self.field()? {
                    self.skip(field.kind)?;
                }
                self.leave();
                Ok(())
            }
            kind::MAP => {
                let (key, value) = (self.byte()?, self.byte()?);
                let count = self.count(2)?;
                self.enter()?;
                for _ in 0..count {
                    self.skip(key)?;
                    self.skip(value)?;
                }
                self.leave();
                Ok(())
            }
            kind::SET | kind::LIST => {
                let of = self.byte()?;
                let count = self.count(1)?;
                self.enter()?;
                for _ in 0..count {
                    self.skip(of)?;
                }
                self.leave();
                Ok(())
            }
            other => Err(self.wrong(Wrong::Type(other))),
        }
    }
}

macro_rules! number {
    ($($of:ty, $kind:ident;)*) => {$(
        impl Wire for $of {
            const TYPE: u8 = kind::$kind;
            fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                r.array().map(<$of>::from_be_bytes)
            }
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}

number! { i8, BYTE; i16, I16; i32, I32; i64, I64; f64, DOUBLE; }

impl Wire for bool {
    const TYPE: u8 = kind::BOOL;
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.byte().map(|byte| byte != 0)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

/// A length of 2^31 and more has no form on the wire; the transport refuses messages long before.
fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
}

impl Wire for String {
    const TYPE: u8 = kind::STRING;
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.text().map(str::to_owned)
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_length(out, self.len());
        out.extend_from_slice(self.as_bytes());
    }
}

impl Wire for Binary {
    const TYPE: u8 = kind::STRING;
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.bytes().map(|bytes| Self(bytes.to_vec()))
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_length(out, self.0.len());
        out.extend_from_slice(&self.0);
    }
    fn each_binary(&mut self, see: &mut dyn FnMut(&mut Binary)) {
        see(self);
    }
}

/// The most elements that are allocated for before they were read.
const AHEAD: usize = 1024;

/// A list or a set: the type of its elements, how many there are, and each.
fn put_sequence<'a, T: Wire + 'a>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = &'a T>) {
    out.push(T::TYPE);
    put_length(out, values.len());
    values.for_each(|value| value.write(out));
}

impl<T: Wire> Wire for Vec<T> {
    const TYPE: u8 = kind::LIST;
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = r.sequence(T::TYPE)?;
        r.enter()?;
        let mut values = Self::with_capacity((count as usize).min(AHEAD));
        for _ in 0..count {
            values.push(T::read(r)?);
        }
        r.leave();
        Ok(values)
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_sequence(out, self.iter());
    }
    fn each_binary(&mut self, see: &mut dyn FnMut(&mut Binary)) {
        self.iter_mut().for_each(|value| value.each_binary(see));
    }
}

impl<T: Wire + Ord> Wire for BTreeSet<T> {
    const TYPE: u8 = kind::SET;
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Vec::read(r)?.into_iter().collect())
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_sequence(out, self.iter());
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    const TYPE: u8 = kind::MAP;
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (key, value) = (r.byte()?, r.byte()?);
        let count = r.count(2)?;
        r.element(K::TYPE, key, count)?;
        r.element(V::TYPE, value, count)?;
        r.enter()?;
        let mut values = Self::new();
        for _ in 0..count {
            let key = K::read(r)?;
            values.insert(key, V::read(r)?);
        }
        r.leave();
        Ok(values)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(K::TYPE);
        out.push(V::TYPE);
        put_length(out, self.len());
        for (key, value) in self {
            key.write(out);
            value.write(out);
        }
    }
    fn each_binary(&mut self, see: &mut dyn FnMut(&mut Binary)) {
        self.values_mut().for_each(|value| value.each_binary(see));
    }
}
