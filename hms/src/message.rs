//! Calls and replies: the envelope of a message, what a call returns, and the exceptions that it can end with.

use crate::ExceptionKind;
use crate::wire::{DecodeError, FieldHeader, Reader, Wire, Wrong, kind};
use std::fmt;

const VERSION: u32 = 0x8001_0000;
const CALL: u32 = 1;
const REPLY: u32 = 2;
const EXCEPTION: u32 = 3;

/// One call of the service: the fields of the type that implements it are the arguments.
pub trait Call {
    /// The name on the wire.
    const NAME: &'static str;
    /// What a reply holds.
    type Reply;
    /// Appends the arguments.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads a reply's body.
    fn read(r: &mut Reader<'_>) -> Result<Result<Self::Reply, Exception>, DecodeError>;
}

/// What the server answered instead of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Which of the exceptions that the IDL lists for the call.
    pub kind: ExceptionKind,
    /// The server's text, empty if it gave none.
    pub message: String,
}

impl Exception {
    /// A reply that holds neither a result nor an exception: Hive's form of `null`.
    pub fn missing_result() -> Self {
        Self { kind: ExceptionKind::Unknown, message: "the reply holds no result".to_owned() }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

/// A Thrift TApplicationException: the server could not carry the call out at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Thrift's number: 1 unknown method, 6 internal error, 7 protocol error, ...
    pub code: i32,
    /// The server's text.
    pub message: String,
}

impl Refusal {
    /// The server does not know the call.
    pub fn is_unknown_method(&self) -> bool {
        self.code == 1
    }
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<T> {
    /// The result.
    Result(T),
    /// An exception of the IDL.
    Exception(Exception),
    /// A TApplicationException.
    Refused(Refusal),
}

/// A reply that does not belong to the call, or is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The bytes are no message, or not the one that the IDL describes.
    #[error("cannot decode the reply")]
    Decode(#[from] DecodeError),
    /// The reply to another call.
    #[error("the reply is to {name} number {sequence}")]
    Other {
        /// The call that it answers.
        name: String,
        /// Its sequence number.
        sequence: i32,
    },
}

/// The bytes of a call.
pub fn encode_call<C: Call>(call: &C, sequence: i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&(VERSION | CALL).to_be_bytes());
    C::NAME.to_owned().write(&mut out);
    sequence.write(&mut out);
    call.write(&mut out);
    out
}

/// Reads the reply to a call.
///
/// # Errors
/// When it is no reply, the reply to another call, or not what the IDL says.
pub fn decode_reply<C: Call>(bytes: &[u8], sequence: i32) -> Result<Reply<C::Reply>, ReplyError> {
    let mut r = Reader::new(bytes);
    let start = r.word()?;
    let of = start & 0xff;
    if start & 0xffff_0000 != VERSION || !matches!(of, REPLY | EXCEPTION) {
        return Err(DecodeError { at: 0, what: Wrong::NoMessage(start) }.into());
    }
    let name = r.text()?;
    let found = i32::read(&mut r)?;
    if found != sequence || name != C::NAME {
        return Err(ReplyError::Other { name: name.to_owned(), sequence: found });
    }
    let reply = if of == EXCEPTION {
        Reply::Refused(refusal(&mut r)?)
    } else {
        match C::read(&mut r)? {
            Ok(result) => Reply::Result(result),
            Err(exception) => Reply::Exception(exception),
        }
    };
    if r.at() != bytes.len() {
        return Err(r.wrong(Wrong::Trailing).into());
    }
    Ok(reply)
}

fn refusal(r: &mut Reader<'_>) -> Result<Refusal, DecodeError> {
    let mut refusal = Refusal { code: 0, message: String::new() };
    r.enter()?;
    while let Some(field) = r.field()? {
        match (field.id, field.kind) {
            (1, kind::STRING) => refusal.message = text(r)?,
            (2, kind::I32) => refusal.code = i32::read(r)?,
            _ => r.skip(field.kind)?,
        }
    }
    r.leave();
    Ok(refusal)
}

/// A server's text for people: what is not UTF-8 in it is no reason to lose the rest.
fn text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    r.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Reads the struct in which a reply holds its result (field 0) or an exception (any other field), which it returns.
/// `value` reads the result, given its type, and says whether it was the right one.
pub(crate) fn read_result(
    r: &mut Reader<'_>,
    exception: impl Fn(i16) -> ExceptionKind,
    mut value: impl FnMut(u8, &mut Reader<'_>) -> Result<bool, DecodeError>,
) -> Result<Option<Exception>, DecodeError> {
    let mut thrown = None;
    r.enter()?;
    while let Some(field) = r.field()? {
        match field.id {
            0 => {
                if !value(field.kind, r)? {
                    r.skip(field.kind)?;
                }
            }
            id => thrown = Some(Exception { kind: exception(id), message: exception_text(r, &field)? }),
        }
    }
    r.leave();
    Ok(thrown)
}

/// Every exception of the IDL is a struct whose first field is its text.
fn exception_text(r: &mut Reader<'_>, field: &FieldHeader) -> Result<String, DecodeError> {
    if field.kind != kind::STRUCT {
        r.skip(field.kind)?;
        return Ok(String::new());
    }
    let mut message = String::new();
    r.enter()?;
    while let Some(field) = r.field()? {
        match (field.id, field.kind) {
            (1, kind::STRING) => message = text(r)?,
            _ => r.skip(field.kind)?,
        }
    }
    r.leave();
    Ok(message)
}
