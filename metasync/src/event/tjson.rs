//! Thrift objects in event messages: strings in Thrift's JSON protocol, carried over to TBinary and back.
//!
//! Pure. A struct is `{"<field id>":{"<type>":<value>}}`, a list or set `["<type>",<count>,...]`, a map
//! `["<key type>","<value type>",<count>,{...}]`; a list as the key of a map stands there unquoted, so that this is not always
//! JSON. Going by way of TBinary, the decoder of our IDL keeps the fields that it does not know. Bytes are base64 in the text;
//! only the IDL can tell them from words, so [`decode`] and [`encode`] turn those that it names.
//! (Apache Thrift, `TJSONProtocol`.) Depth is bounded, errors name the offset, nothing panics.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hms::wire::{self, Binary, MAX_DEPTH, Reader, Wire, kind};
use std::fmt::Write as _;

/// Thrift writes no padding, and takes any.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A text that is no Thrift object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct TjsonError {
    /// The offset in the text, or in the bytes.
    pub at: usize,
    /// What is wrong there.
    pub what: String,
}

type Result<T, E = TjsonError> = std::result::Result<T, E>;

/// The object that a text holds.
///
/// # Errors
/// When it is not such an object.
pub fn decode<T: Wire>(text: &str) -> Result<T> {
    let wrong = |what: String| TjsonError { at: 0, what };
    let mut value: T =
        wire::from_bytes(&to_binary(text)?).map_err(|error| wrong(format!("another object: {error}")))?;
    let mut damaged = None;
    value.each_binary(&mut |Binary(bytes)| match BASE64.decode(&*bytes) {
        Ok(decoded) => *bytes = decoded,
        Err(error) => damaged = Some(error),
    });
    match damaged {
        Some(error) => Err(wrong(format!("bytes that are not base64: {error}"))),
        None => Ok(value),
    }
}

/// The text of an object.
///
/// # Errors
/// When fields that the IDL does not know hold what the text cannot: bytes that are no words.
pub fn encode<T: Wire + Clone>(value: &T) -> Result<String> {
    let mut value = value.clone();
    value.each_binary(&mut |Binary(bytes)| *bytes = BASE64.encode(&*bytes).into_bytes());
    to_text(&wire::to_bytes(&value))
}

/// A struct's text as TBinary. Bytes stay base64.
///
/// # Errors
/// Where the text is no struct, or goes on after it.
pub fn to_binary(text: &str) -> Result<Vec<u8>> {
    let mut parser = Parser { text, at: 0 };
    let mut out = Vec::with_capacity(text.len());
    parser.structure(&mut out, 0)?;
    parser.blanks();
    if parser.at < text.len() { Err(parser.wrong("text after the end")) } else { Ok(out) }
}

/// The wire's number of a type's name.
fn type_of(name: &str) -> Option<u8> {
    Some(match name {
        "tf" => kind::BOOL,
        "i8" => kind::BYTE,
        "i16" => kind::I16,
        "i32" => kind::I32,
        "i64" => kind::I64,
        "dbl" => kind::DOUBLE,
        "str" => kind::STRING,
        "rec" => kind::STRUCT,
        "lst" => kind::LIST,
        "set" => kind::SET,
        "map" => kind::MAP,
        _ => return None,
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn wrong(&self, what: impl Into<String>) -> TjsonError {
        TjsonError { at: self.at, what: what.into() }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes over this sign, if it is next.
    fn is(&mut self, sign: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: u8) -> Result<()> {
        match self.is(sign) {
            true => Ok(()),
            false => Err(self.wrong(format!("`{}` is missing", char::from(sign)))),
        }
    }

    fn structure(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<()> {
        self.expect(b'{')?;
        if !self.is(b'}') {
            loop {
                let start = self.at;
                let id = self.string()?;
                let id: i16 =
                    id.parse().map_err(|_| TjsonError { at: start, what: format!("`{id}` is no field id") })?;
                self.expect(b':')?;
                self.expect(b'{')?;
                let of = self.type_name()?;
                self.expect(b':')?;
                out.push(of);
                id.write(out);
                self.value(of, out, depth + 1)?;
                self.expect(b'}')?;
                if !self.is(b',') {
                    break;
                }
            }
            self.expect(b'}')?;
        }
        out.push(kind::STOP);
        Ok(())
    }

    fn type_name(&mut self) -> Result<u8> {
        self.blanks();
        let at = self.at;
        let name = self.string()?;
        type_of(&name).ok_or_else(|| TjsonError { at, what: format!("`{name}` is no type") })
    }

    fn value(&mut self, of: u8, out: &mut Vec<u8>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("values nested too deep"));
        }
        match of {
            kind::BOOL => bool::write(&(self.number::<i64>("a truth value")? != 0), out),
            kind::BYTE => i8::write(&self.number("a number of 8 bits")?, out),
            kind::I16 => i16::write(&self.number("a number of 16 bits")?, out),
            kind::I32 => i32::write(&self.number("a number of 32 bits")?, out),
            kind::I64 => i64::write(&self.number("a number of 64 bits")?, out),
            kind::DOUBLE => f64::write(&self.number("a floating-point number")?, out),
            kind::STRING => self.string()?.write(out),
            kind::STRUCT => self.structure(out, depth)?,
            kind::MAP => self.map(out, depth)?,
            _ => self.sequence(out, depth)?,
        }
        Ok(())
    }

    fn sequence(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<()> {
        self.expect(b'[')?;
        let of = self.type_name()?;
        self.expect(b',')?;
        let count = self.count()?;
        out.push(of);
        count.write(out);
        for _ in 0..count {
            self.expect(b',')?;
            self.value(of, out, depth + 1)?;
        }
        self.expect(b']')
    }

    fn map(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<()> {
        self.expect(b'[')?;
        let key = self.type_name()?;
        self.expect(b',')?;
        let value = self.type_name()?;
        self.expect(b',')?;
        let count = self.count()?;
        self.expect(b',')?;
        self.expect(b'{')?;
        out.extend_from_slice(&[key, value]);
        count.write(out);
        for at in 0..count {
            if at > 0 {
                self.expect(b',')?;
            }
            self.value(key, out, depth + 1)?;
            self.expect(b':')?;
            self.value(value, out, depth + 1)?;
        }
        self.expect(b'}')?;
        self.expect(b']')
    }

    fn count(&mut self) -> Result<i32> {
        self.blanks();
        let at = self.at;
        let count: i32 = self.number("a count")?;
        if count < 0 { Err(TjsonError { at, what: "a count below zero".to_owned() }) } else { Ok(count) }
    }

    /// A number; in quotes where it is the key of a map, or is not finite.
    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T> {
        self.blanks();
        let start = self.at;
        let quoted = self.is(b'"');
        let from = self.at;
        while self.peek().is_some_and(|sign| sign.is_ascii_alphanumeric() || matches!(sign, b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        let text = match &self.text[from..self.at] {
            "true" => "1",
            "false" => "0",
            "Infinity" => "inf",
            "-Infinity" => "-inf",
            text => text,
        };
        let number = text.parse().map_err(|_| TjsonError { at: start, what: format!("`{text}` is not {what}") })?;
        if quoted {
            self.expect(b'"')?;
        }
        Ok(number)
    }

    fn string(&mut self) -> Result<String> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let end = rest.find(['"', '\\']).ok_or_else(|| self.wrong("a string without an end"))?;
            out.push_str(&rest[..end]);
            self.at += end + 1;
            if rest.as_bytes()[end] == b'"' {
                return Ok(out);
            }
            out.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Result<char> {
        let sign = self.peek().ok_or_else(|| self.wrong("a string without an end"))?;
        self.at += 1;
        Ok(match sign {
            b'"' | b'\\' | b'/' => char::from(sign),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                let code = match first {
                    0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                        self.at += 2;
                        let second = self.hex()?;
                        0x10000 + ((first - 0xd800) << 10) + second.wrapping_sub(0xdc00) % 0x400
                    }
                    code => code,
                };
                // Half of a pair is what Java makes of damaged text.
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => {
                self.at -= 1;
                return Err(self.wrong("an escape that JSON does not have"));
            }
        })
    }

    fn hex(&mut self) -> Result<u32> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|it| it.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.ok_or_else(|| self.wrong("an escape without four hex digits"))?;
        self.at += 4;
        Ok(code)
    }
}

/// A struct's TBinary as text.
///
/// # Errors
/// Where the bytes are no struct, hold strings that are no text, or go on after it.
pub fn to_text(bytes: &[u8]) -> Result<String> {
    let mut reader = Reader::new(bytes);
    let mut out = String::with_capacity(bytes.len() * 2);
    put_value(&mut reader, kind::STRUCT, &mut out, 0).map_err(|error| match error {
        Bytes::Decode(error) => TjsonError { at: error.at, what: error.what.to_string() },
        Bytes::Here(what) => TjsonError { at: reader.at(), what: what.to_owned() },
    })?;
    match reader.at() < bytes.len() {
        true => Err(TjsonError { at: reader.at(), what: "bytes after the end".to_owned() }),
        false => Ok(out),
    }
}

/// What is wrong with bytes.
enum Bytes {
    Decode(wire::DecodeError),
    Here(&'static str),
}

impl From<wire::DecodeError> for Bytes {
    fn from(error: wire::DecodeError) -> Self {
        Self::Decode(error)
    }
}

fn name_of(of: u8) -> Result<&'static str, Bytes> {
    Ok(match of {
        kind::BOOL => "tf",
        kind::BYTE => "i8",
        kind::I16 => "i16",
        kind::I32 => "i32",
        kind::I64 => "i64",
        kind::DOUBLE => "dbl",
        kind::STRING => "str",
        kind::STRUCT => "rec",
        kind::LIST => "lst",
        kind::SET => "set",
        kind::MAP => "map",
        _ => return Err(Bytes::Here("an unknown type")),
    })
}

fn put_value(r: &mut Reader<'_>, of: u8, out: &mut String, depth: usize) -> Result<(), Bytes> {
    if depth > MAX_DEPTH {
        return Err(Bytes::Here("values nested too deep"));
    }
    match of {
        kind::BOOL => put(out, u8::from(bool::read(r)?)),
        kind::BYTE => put(out, i8::read(r)?),
        kind::I16 => put(out, i16::read(r)?),
        kind::I32 => put(out, i32::read(r)?),
        kind::I64 => put(out, i64::read(r)?),
        kind::DOUBLE => put_double(out, f64::read(r)?),
        kind::STRING => put_string(out, r.text()?),
        kind::STRUCT => {
            out.push('{');
            let mut first = true;
            while let Some(field) = r.field()? {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                let name = name_of(field.kind)?;
                put(out, format_args!("\"{}\":{{\"{name}\":", field.id));
                put_value(r, field.kind, out, depth + 1)?;
                out.push('}');
            }
            out.push('}');
        }
        kind::MAP => {
            let (key, value) = (r.byte()?, r.byte()?);
            let count = i32::read(r)?;
            put(out, format_args!("[\"{}\",\"{}\",{count},{{", name_of(key)?, name_of(value)?));
            for at in 0..count {
                if at > 0 {
                    out.push(',');
                }
                let quoted = !matches!(key, kind::STRING | kind::STRUCT | kind::LIST | kind::SET | kind::MAP);
                out.push_str(if quoted { "\"" } else { "" });
                put_value(r, key, out, depth + 1)?;
                out.push_str(if quoted { "\":" } else { ":" });
                put_value(r, value, out, depth + 1)?;
            }
            out.push_str("}]");
        }
        kind::LIST | kind::SET => {
            let of = r.byte()?;
            let count = i32::read(r)?;
            put(out, format_args!("[\"{}\",{count}", name_of(of)?));
            for _ in 0..count {
                out.push(',');
                put_value(r, of, out, depth + 1)?;
            }
            out.push(']');
        }
        _ => return Err(Bytes::Here("an unknown type")),
    }
    Ok(())
}

/// Writing to a string does not fail.
fn put(out: &mut String, what: impl std::fmt::Display) {
    let _never_fails = write!(out, "{what}");
}

fn put_double(out: &mut String, number: f64) {
    match number {
        _ if number.is_nan() => out.push_str("\"NaN\""),
        f64::INFINITY => out.push_str("\"Infinity\""),
        f64::NEG_INFINITY => out.push_str("\"-Infinity\""),
        _ => put(out, format_args!("{number:?}")),
    }
}

fn put_string(out: &mut String, text: &str) {
    out.push('"');
    for sign in text.chars() {
        match sign {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{0}'..='\u{1f}' => put(out, format_args!("\\u{:04x}", u32::from(sign))),
            _ => out.push(sign),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
